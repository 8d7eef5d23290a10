import type { Config } from "../shared/config/schema.ts";
import { validationOf } from "../shared/config/validation.ts";
import { LockstepError, sentenceOf } from "../shared/errors.ts";
import type { ModelFacts, WorkerMessage } from "../shared/protocol/messages.ts";
import type { Incarnation } from "../shared/protocol/view.ts";
import type { CheckpointStore } from "./checkpoints/store.ts";
import type { Chronicle } from "./chronicle.ts";
import { type Clock, SYSTEM_CLOCK } from "./clock.ts";
import { Farewell } from "./farewell.ts";
import { CoordinatorFaults } from "./faults.ts";
import { step as advance } from "./machine/machine.ts";
import {
  createMachine,
  type MachineAction,
  type MachineEvent,
  type MachineState,
  type Outcome,
} from "./machine/state.ts";
import { addLoss, type FoldedHistory, type LossSum, meanLoss } from "./records/history.ts";
import { type DurableRecord, finalRecord, validationRecord } from "./records/record.ts";
import type { Store } from "./records/term-files.ts";
import type { Sessions } from "./sessions.ts";
import { WORKER_CALLS, type WorkerCalls } from "./worker-calls.ts";

export interface RulerParts {
  readonly config: Config;
  readonly store: Store;
  readonly history: FoldedHistory;
  readonly checkpoints: Pick<
    CheckpointStore,
    "write" | "recorded" | "usable" | "newestUsable" | "cutBack" | "validated"
  >;
  readonly chronicle: Pick<Chronicle, "event" | "final" | "validation" | "truncate" | "note">;
  readonly testImages: number;
  /** A person started the run again; default: this reign follows a crash. */
  readonly resumed?: boolean;
  /** How it reaches workers beside their sessions, and its time; a test has its own. */
  readonly calls?: WorkerCalls;
  readonly clock?: Clock;
}

/** A forked run whose checkpoints are all lost. */
export const STATE_GONE = [
  "LS_FORK_STATE",
  "No checkpoint of this run is sound any more, and it began with the state of another run.",
  { hint: "Fork that run again." },
] as const;

/** What it needs of the sessions. */
export type RulerSessions = Pick<Sessions, "send" | "close" | "incarnations">;

const TICK_MILLIS = 100;
/** How often it looks for a newer term while nothing is to be recorded, in milliseconds. */
const RULING_MILLIS = 500;

/**
 * Rules a run: feeds the membership machine and performs what it decides, in order, each record durable before anything
 * that follows from it.
 */
export class Ruler {
  readonly state: MachineState;
  readonly faults = new CoordinatorFaults();
  readonly #parts: RulerParts;
  readonly #queue: MachineAction[] = [];
  readonly #calls: WorkerCalls;
  readonly #clock: Clock;
  readonly #timers: (() => void)[] = [];
  #settle: { resolve(outcome: Outcome): void; reject(error: unknown): void } | null = null;
  #sessions: RulerSessions | null = null;
  /** Set once nobody follows any more: later steps do not count. */
  #cutBackTo = Number.POSITIVE_INFINITY;
  #recordedStep: number;
  #facts: ModelFacts | null;
  #sinceCheckpoint: LossSum;
  /** The checkpoint that was begun last; at most one is under way. It never rejects. */
  #storing: Promise<void> = Promise.resolve();
  #pumping = false;
  #over = false;
  readonly #farewell = new Farewell();

  constructor(parts: RulerParts) {
    this.#parts = parts;
    const { config, history, store, testImages } = parts;
    this.#calls = parts.calls ?? WORKER_CALLS;
    this.#clock = parts.clock ?? SYSTEM_CLOCK;
    const { recipe, place } = config;
    this.state = createMachine(
      {
        term: store.term,
        shards: recipe.shards,
        totalSteps: recipe.steps,
        workers: place.workers,
        minWorkers: place.minWorkers,
        timing: place.timing,
        balance: place.balance,
        checkpointEverySteps: place.checkpoint.everySteps,
        evaluationBatches: place.evaluation === null ? 0 : Math.ceil(testImages / place.evaluation.batch),
        validation: validationOf(config, testImages),
        resumed: parts.resumed ?? false,
      },
      history,
      this.#clock.now(),
    );
    // The reign before was asked to stop and did not get to it.
    this.state.stopping = history.stopping;
    this.#recordedStep = history.ledgerTip?.step ?? 0;
    this.#facts = history.facts;
    this.#sinceCheckpoint = history.sinceCheckpoint;
  }

  /** Ledger entries below this step are durable. */
  get recordedStep(): number {
    return this.#recordedStep;
  }

  get facts(): ModelFacts | null {
    return this.#facts;
  }

  /**
   * Rules over these sessions until the run ends.
   * @throws LockstepError LS_SUPERSEDED where somebody else rules, LS_RECORDS_WRITE: the run goes on under another reign
   */
  rule(sessions: RulerSessions): Promise<Outcome> {
    this.#sessions = sessions;
    const { heartbeatInterval } = this.#parts.config.place.timing;
    this.#timers.push(
      this.#clock.every(TICK_MILLIS, () => this.feed({ kind: "tick" })),
      this.#clock.every(heartbeatInterval, () => this.#beat()),
      this.#clock.every(RULING_MILLIS, () => this.#checkRuling()),
    );
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
  }

  /** The run had ended before: what is left is to let go whoever comes, for long enough that everybody can redial. */
  async conclude(sessions: RulerSessions, outcome: Outcome): Promise<Outcome> {
    this.#sessions = sessions;
    this.#over = true;
    this.#farewell.begin(sessions, outcome);
    const { redialMax, heartbeatTimeout } = this.#parts.config.place.timing;
    await new Promise<void>((resolve) => {
      const stop = this.#clock.every(redialMax + heartbeatTimeout, () => {
        stop();
        resolve();
      });
    });
    return outcome;
  }

  /** Stops the run in order: the request outlives this process. */
  stop(reason: string): void {
    if (this.state.stopping === null) this.#record([{ kind: "stop", reason, time: Date.now() }]);
    this.feed({ kind: "stop", reason });
  }

  hello(hello: Extract<WorkerMessage, { kind: "hello" }>): void {
    const { term } = this.state.settings;
    const { config } = this.#parts;
    this.#sessions!.send(hello.incarnation, { kind: "welcome", term, config, fingerprint: this.state.fingerprint });
    if (this.#over) this.#farewell.take(hello.incarnation);
    else this.feed({ kind: "hello", hello });
  }

  message(from: Incarnation, message: WorkerMessage): void {
    if (message.kind === "ready") this.#facts ??= message.facts;
    this.feed({ kind: "message", from, message });
  }

  feed(event: MachineEvent): void {
    if (this.#over) return;
    const view = this.state.installed ?? this.state.inherited.at(-1);
    const members = new Set(view?.members.map(({ incarnation }) => incarnation));
    const actions = advance(this.state, event, this.#clock.now());
    for (const action of actions) this.#recordLoss(action, members);
    this.#queue.push(...actions);
    if (!this.#pumping) void this.#pump();
  }

  async #pump(): Promise<void> {
    this.#pumping = true;
    try {
      while (this.#queue.length > 0) {
        const records: DurableRecord[] = [];
        const recorded: MachineAction[] = [];
        // Records that stand together share one flush.
        for (let head = this.#queue[0]; head !== undefined; head = this.#queue[0]) {
          const theirs = this.#recordsOf(head);
          if (theirs === null) break;
          records.push(...theirs);
          recorded.push(this.#queue.shift()!);
        }
        if (records.length > 0) {
          await this.#parts.store.append(records);
          for (const action of recorded) this.#onRecorded(action);
          // What came meanwhile may begin with records again.
          continue;
        }
        const action = this.#queue.shift();
        if (action !== undefined) await this.#perform(action);
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#pumping = false;
    }
  }

  #recordsOf(action: MachineAction): DurableRecord[] | null {
    const time = Date.now();
    switch (action.kind) {
      case "recordView":
        return [{ kind: "view", view: action.view as never, base: action.base, reason: action.reason, time }];
      case "recordFinal":
        return action.entries.map((entry) => finalRecord(entry, time));
      case "recordValidation":
        return [validationRecord(action.validation, time)];
      case "recordFirst":
        // Facts came with the same message.
        return [
          { kind: "first", fingerprint: [...action.fingerprint], root: action.root, facts: this.#facts as never },
        ];
      case "recordTruncate":
        return [{ kind: "truncate", tip: action.tip }];
      default:
        return null;
    }
  }

  #onRecorded(action: MachineAction): void {
    if (action.kind === "recordTruncate") this.#truncated(action.tip.step);
    if (action.kind === "recordValidation") {
      const { best, settings } = this.state;
      if (settings.validation?.patience != null) this.#parts.checkpoints.validated(best?.step ?? null);
      this.#parts.chronicle.validation(action.validation, Date.now());
    }
    if (action.kind === "recordView") this.faults.at(action.view.predecessor === null ? "change" : "plan");
    if (action.kind !== "recordFinal") return;
    for (const entry of action.entries) {
      this.#recordedStep = entry.step + 1;
      this.#sinceCheckpoint = addLoss(this.#sinceCheckpoint, entry.loss);
      this.#parts.chronicle.final(entry, Date.now());
    }
    this.faults.at("step");
  }

  #truncated(step: number, keepsValidations = false): void {
    this.#recordedStep = step;
    this.#parts.chronicle.truncate(step, keepsValidations);
  }

  #perform(action: MachineAction): void | Promise<void> {
    const { chronicle } = this.#parts;
    switch (action.kind) {
      case "send":
        if (action.message.kind === "restore") return this.#sendRestore(action.to, action.message);
        return this.#sessions?.send(action.to, action.message);
      case "close":
        return this.#sessions?.close(action.incarnation);
      case "retreat":
        return this.#retreat(action);
      case "storeCheckpoint":
        this.#storing = this.#storeCheckpoint(action);
        return;
      case "probe":
        return void this.#calls.isRefused(action.address).then((refused) => {
          if (refused) this.feed({ kind: "refused", incarnation: action.incarnation });
        });
      case "event":
        return chronicle.event(action.event);
      case "finish":
        return this.#finish(action.outcome);
      case "recordView":
      case "recordFinal":
      case "recordValidation":
      case "recordFirst":
      case "recordTruncate":
        return;
      default:
        return action satisfies never;
    }
  }

  /** A checkpoint that is torn or was changed is not loaded; the machine chooses again. */
  async #sendRestore(
    to: Incarnation,
    message: Extract<MachineAction, { kind: "send" }>["message"] & { kind: "restore" },
  ): Promise<void> {
    const { checkpoints } = this.#parts;
    const { tip } = message;
    if (tip.step === 0 || (await checkpoints.usable(tip.step))) return this.#sessions?.send(to, message);
    const next = await checkpoints.newestUsable();
    // A forked run has no initial state of its own to begin with again.
    if (next === null && this.#parts.config.parent !== undefined) return this.#fail(new LockstepError(...STATE_GONE));
    this.feed({ kind: "checkpointLost", tip, next: next?.tip ?? null });
  }

  /** Cuts the line back to a checkpoint. Nobody follows: the run ends. */
  async #retreat({ before, reason, keepsValidations }: Extract<MachineAction, { kind: "retreat" }>): Promise<void> {
    const { checkpoints, chronicle, store } = this.#parts;
    // The one that is just being written may be the one to go back to.
    await this.#storing;
    const record = await checkpoints.newestUsable(before);
    if (record === null) return chronicle.note(`There is no checkpoint of step ${before} or before to go back to.`);
    const { tip } = record;
    await store.append([{ kind: "truncate", tip, ...(keepsValidations === true ? { keepsValidations } : {}) }]);
    chronicle.event({ type: "fallback", fromStep: this.#recordedStep, toStep: tip.step, reason });
    this.#truncated(tip.step, keepsValidations);
    this.#cutBackTo = tip.step;
    checkpoints.cutBack(tip.step);
  }

  async #storeCheckpoint({ from, tip, bytes }: Extract<MachineAction, { kind: "storeCheckpoint" }>): Promise<void> {
    const { config, checkpoints, store } = this.#parts;
    const worker = this.state.workers.get(from);
    try {
      if (worker === undefined) throw new LockstepError("LS_SNAPSHOT", "The worker that holds the snapshot is gone.");
      if (this.#facts?.stateBytes !== bytes) throw new LockstepError("LS_SNAPSHOT", `The snapshot has ${bytes} bytes.`);
      const loss = meanLoss(this.#sinceCheckpoint);
      const pieces = this.#calls.pullSnapshot(worker.address, config.runId, tip, bytes, () => this.#isTraining());
      const record = await checkpoints.write(tip, this.#facts, loss, pieces);
      // The line was cut back meanwhile: this step is not on it any more.
      if (tip.step > this.#cutBackTo) return;
      this.faults.at("checkpoint");
      await store.append([{ kind: "checkpoint", ...record }]);
      this.#sinceCheckpoint = { steps: 0, loss: 0 };
      checkpoints.recorded(record);
      this.feed({ kind: "checkpointStored", tip });
    } catch (error) {
      this.feed({ kind: "checkpointFailed", tip, reason: sentenceOf(error) });
    }
  }

  /** Do members step on that want to stay? Else everybody waits for what is under way. */
  #isTraining(): boolean {
    const { phase, stopping, installed, workers } = this.state;
    const staying = installed?.members.some(({ incarnation }) => workers.get(incarnation)?.leaving === null);
    return phase === "running" && stopping === null && staying === true;
  }

  /** Counted across the reigns of a run; nothing follows from it, so that nothing waits for it. */
  #recordLoss(action: MachineAction, members: ReadonlySet<Incarnation>): void {
    if (action.kind !== "event" || action.event.type !== "worker" || action.event.change !== "lost") return;
    const { worker, why } = action.event;
    if (members.has(worker)) this.#record([{ kind: "loss", worker, why, time: Date.now() }]);
  }

  #record(records: readonly DurableRecord[]): void {
    this.#parts.store.append(records).catch((error: unknown) => this.#fail(error));
  }

  #beat(): void {
    const sessions = this.#sessions!;
    const message = { kind: "heartbeat", term: this.state.settings.term, recorded: this.#recordedStep } as const;
    for (const incarnation of sessions.incarnations) sessions.send(incarnation, message);
  }

  /** One that was frozen while somebody took over must let its workers go, also when it has nothing to record. */
  #checkRuling(): void {
    try {
      this.#parts.store.checkRuling();
    } catch (error) {
      this.#fail(error);
    }
  }

  async #finish(outcome: Outcome): Promise<void> {
    this.#end();
    if (outcome.kind === "failed" && outcome.code === "LS_SUPERSEDED")
      throw new LockstepError(outcome.code, outcome.message);
    this.faults.at("last");
    const message = outcome.kind === "done" ? "" : outcome.kind === "stopped" ? outcome.reason : outcome.message;
    const code = outcome.kind === "failed" ? outcome.code : null;
    await this.#parts.store.append([{ kind: "end", outcome: outcome.kind, message, code, time: Date.now() }]);
    this.#farewell.begin(this.#sessions!, outcome);
    this.#settle?.resolve(outcome);
  }

  #fail(error: unknown): void {
    this.#end();
    this.#settle?.reject(error);
  }

  #end(): void {
    this.#over = true;
    for (const stop of this.#timers) stop();
  }
}
