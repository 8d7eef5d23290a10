import type { Logger } from "pino";
import type { Broadcaster } from "../shared/broadcast/broadcaster.ts";
import type { Config } from "../shared/config/schema.ts";
import type { Plan } from "../shared/plan/plan.ts";
import type { LedgerEntry } from "../shared/protocol/trailer.ts";
import { type Account, sentenceOfEvent } from "./account.ts";
import { isDiskFull } from "./files/durable.ts";
import { LineFile } from "./files/line-file.ts";
import type { RunDirectory } from "./files/run-directory.ts";
import { StepsFile } from "./files/steps-file.ts";
import { type ValidationLine, ValidationsFile } from "./files/validations-file.ts";
import { differenceOf } from "./ledger.ts";
import type { RunEvent } from "./machine/state.ts";
import type { Validation } from "./machine/validate.ts";
import type { DurableRecord } from "./records/record.ts";
import { EventFile } from "./tensorboard/event-file.ts";

export interface ChronicleParts {
  readonly directory: RunDirectory;
  readonly config: Config;
  readonly term: number;
  readonly plan: Plan;
  readonly account: Account;
  readonly broadcaster: Broadcaster | null;
  readonly log: Logger;
  /** Sentences for whoever sits at the terminal; nothing under `up`, which shows them itself. */
  say(sentence: string): void;
}

/** Tells what happens in a run: files, broadcast, metrics, log. Nothing is decided by it, and nothing waits for it. */
export class Chronicle {
  readonly #parts: ChronicleParts;
  readonly #events: LineFile;
  readonly #steps: StepsFile;
  readonly #validations: ValidationsFile;
  readonly #scalars: EventFile;

  constructor(parts: ChronicleParts) {
    this.#parts = parts;
    this.#events = new LineFile(parts.directory.at("events.ndjson"));
    this.#steps = new StepsFile(parts.directory.at("steps.ndjson"), parts.config.recipe);
    const { stepsPerEpoch } = parts.config.recipe;
    this.#validations = new ValidationsFile(parts.directory.at("validations.ndjson"), stepsPerEpoch);
    this.#scalars = new EventFile(parts.directory.at("tensorboard"), parts.config.recipe, parts.term, Date.now());
  }

  event(event: RunEvent): void {
    const { account, broadcaster, config, log, term, say } = this.#parts;
    const sentence = sentenceOfEvent(event);
    // A line that a person can read, with the fields beside it.
    log.info(event, sentence ?? event.type);
    const line = { time: new Date().toISOString(), term, ...event };
    this.#events.write(JSON.stringify(line));
    broadcaster?.publishEvent({ run: config.runId, ...line });
    account.onEvent(event);
    if (sentence !== null) say(sentence);
  }

  /** Something that a person should read and no program needs. */
  note(sentence: string): void {
    const { account, log, say } = this.#parts;
    log.warn(sentence);
    account.note(sentence);
    say(sentence);
  }

  /** A final step; its record is durable. */
  final(entry: LedgerEntry, time: number): void {
    const { account, broadcaster, config, plan } = this.#parts;
    this.#steps.write(entry, time);
    this.#scalars.final(entry, time);
    // Members broadcast their steps as well; the last ones of a run are final only here.
    broadcaster?.publishStep(entry, "coordinator", config);
    account.onFinal(entry);
    if (!entry.applied) this.note(`Step ${entry.step} was not applied: its loss or gradient is not finite.`);
    const difference = differenceOf(entry, plan);
    if (difference === null) return;
    const by = entry.shards[difference.shard]?.by ?? "nobody";
    this.note(`Step ${entry.step}: shard ${difference.shard} (worker ${by}) was not fed its planned samples.`);
  }

  /** Oldest first. */
  get validations(): readonly ValidationLine[] {
    return this.#validations.lines;
  }

  /** A validation whose record is durable. */
  validation(validation: Validation, time: number): void {
    const line = this.#validations.add(validation, time);
    this.#withRoom("validations.ndjson", () => this.#validations.write());
    this.#scalars.validation(line, time);
    this.#parts.account.onValidation(line);
  }

  /** It is recorded that final steps from this one on do not count any more. */
  truncate(steps: number, keepsValidations = false): void {
    this.#scalars.truncate(steps, Date.now());
    this.#parts.account.history.truncate(steps);
    if (!keepsValidations) this.#withRoom("validations.ndjson", () => this.#validations.truncate(steps));
  }

  /** Brings steps.ndjson and validations.ndjson in line with the records, as far as there is room: the next reign does it again. */
  async reconcile(records: () => Iterable<DurableRecord>): Promise<void> {
    try {
      await this.#steps.reconcile(records);
    } catch (error) {
      this.#lacks("steps.ndjson", error);
    }
    this.#withRoom("validations.ndjson", () => this.#validations.reconcile(records()));
  }

  #withRoom(file: string, write: () => void): void {
    try {
      write();
    } catch (error) {
      this.#lacks(file, error);
    }
  }

  #lacks(file: string, error: unknown): void {
    if (!isDiskFull(error)) throw error;
    this.note(`${file} lacks lines, since the disk is full; the records have them.`);
  }

  async close(): Promise<void> {
    await Promise.all([
      this.#events.close(),
      this.#steps.close(),
      this.#scalars.close(),
      this.#parts.broadcaster?.close(),
    ]);
    const dropped = this.#events.dropped;
    if (dropped > 0) this.#parts.log.warn({ dropped }, "events.ndjson lacks lines: the disk was full or slow");
  }
}
