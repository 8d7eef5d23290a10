import type { Broadcaster } from "../shared/broadcast/broadcaster.ts";
import type { Config } from "../shared/config/schema.ts";
import { type LedgerEntry, tallyOf } from "../shared/protocol/trailer.ts";
import { type Incarnation, viewName } from "../shared/protocol/view.ts";
import type { DiskWatch } from "./disk-watch.ts";
import type { ValidationLine } from "./files/validations-file.ts";
import { kindOf, RunHistory } from "./live/history.ts";
import type { RunEvent } from "./machine/state.ts";
import { type DurableRecord, entryOf } from "./records/record.ts";
import type { Ruler } from "./ruler.ts";
import { RunMetrics } from "./run-metrics.ts";

const MOST_MESSAGES = 50;

/** What is shown of a run: metrics and the status that `up`, `status` and the pages ask for. */
export class Account {
  readonly metrics: RunMetrics;
  readonly history = new RunHistory();
  private readonly config: Config;
  private last: LedgerEntry | null = null;
  private validated: ValidationLine | null = null;
  private readonly finals: { readonly at: number; readonly images: number }[] = [];
  private readonly messages: { readonly time: string; readonly text: string }[] = [];

  constructor(config: Config) {
    this.config = config;
    this.metrics = new RunMetrics(config);
  }

  /** What reigns before this one left, for the course of the whole run. */
  remember(records: Iterable<DurableRecord>, events: readonly (RunEvent & { readonly time: string })[]): void {
    const { history } = this;
    for (const record of records) {
      if (record.kind === "final") history.final(entryOf(record), record.time);
      if (record.kind === "truncate") history.truncate(record.tip.step);
    }
    for (const event of events) {
      const text = sentenceOfEvent(event);
      const time = Date.parse(event.time);
      if (typeof text === "string" && !Number.isNaN(time)) history.happened(time, kindOf(event), text);
    }
  }

  onFinal(entry: LedgerEntry): void {
    this.last = entry;
    this.finals.push({ at: performance.now(), images: tallyOf(entry.shards).images });
    if (this.finals.length > 50) this.finals.shift();
    this.history.final(entry, Date.now());
    this.metrics.final(entry);
  }

  /** A validation, those of older reigns as well. */
  onValidation(line: ValidationLine): void {
    if (line.accuracy === null) return;
    this.validated = line;
    this.history.validated(line);
    this.metrics.validation(line);
  }

  onEvent(event: RunEvent): void {
    this.metrics.event(event);
    const text = sentenceOfEvent(event);
    if (text === null) return;
    this.note(text);
    this.history.happened(Date.now(), kindOf(event), text);
  }

  /** A sentence that `up` and `status` show. */
  note(text: string): void {
    this.messages.push({ time: new Date().toISOString(), text });
    if (this.messages.length > MOST_MESSAGES) this.messages.shift();
  }

  /** Brings the metrics up to date for a scrape. */
  collect(ruler: Ruler, broadcaster: Broadcaster | null, disk: DiskWatch): void {
    this.metrics.scrape({ ruler, workers: this.rows(ruler), broadcaster, disk });
  }

  /** @param kept why a worker is not let in; null for the others */
  status(ruler: Ruler, kept: (incarnation: Incarnation) => string | null = () => null): Status {
    const { state } = ruler;
    const { recipe, runId } = this.config;
    const [first] = this.finals;
    const lastFinal = this.finals.at(-1);
    const seconds = first === undefined || lastFinal === undefined ? 0 : (lastFinal.at - first.at) / 1000;
    const images = this.finals.slice(1).reduce((total, final) => total + final.images, 0);
    const done = state.evaluation?.done.size ?? 0;
    return {
      run: runId,
      term: state.settings.term,
      phase: state.phase,
      view: state.installed === null ? null : viewName(state.installed.id),
      step: ruler.recordedStep,
      steps: recipe.steps,
      stepsPerEpoch: recipe.stepsPerEpoch,
      loss: this.last?.loss ?? null,
      accuracy: this.last === null ? null : tallyOf(this.last.shards).accuracy,
      imagesPerSecond: seconds > 0 ? images / seconds : null,
      secondsPerStep: this.finals.length > 1 ? seconds / (this.finals.length - 1) : null,
      evaluation: state.settings.evaluationBatches === 0 ? null : { done, batches: state.settings.evaluationBatches },
      validation: this.validated === null ? null : { step: this.validated.step, accuracy: this.validated.accuracy! },
      checkpoint: state.checkpoint?.step ?? null,
      waiting: state.waiting?.detail ?? null,
      workers: this.rows(ruler, kept),
      messages: this.messages,
    };
  }

  /** One row for each worker that is there. */
  rows(ruler: Ruler, kept: (incarnation: Incarnation) => string | null = () => null): WorkerRow[] {
    const { state } = ruler;
    return [...state.workers.values()]
      .filter((worker) => !worker.evicted)
      .map((worker) => {
        const member = state.installed?.members.find((m) => m.incarnation === worker.incarnation);
        const shards = member === undefined ? 0 : member.shards.to - member.shards.from;
        const joined =
          member === undefined ? (worker.ready ? "standby" : "loading") : shards > 0 ? "computing" : "joining";
        return {
          name: worker.name,
          incarnation: worker.incarnation,
          host: worker.host,
          pid: worker.pid,
          address: worker.address,
          httpAddress: worker.httpAddress,
          state: worker.connected ? (kept(worker.incarnation) === null ? joined : "unreached") : "away",
          why: kept(worker.incarnation) ?? "",
          shards: shards === 0 ? "" : `${member!.shards.from}-${member!.shards.to - 1}`,
          phase: worker.progress?.phase ?? "",
          step: worker.progress?.step ?? 0,
          shardMillis: worker.progress?.shardMillis ?? 0,
          images: worker.progress?.images ?? 0,
          residentBytes: worker.progress?.residentBytes ?? 0,
        };
      });
  }
}

export interface WorkerRow {
  readonly name: string;
  readonly incarnation: string;
  readonly host: string;
  readonly pid: number;
  readonly address: string;
  readonly httpAddress: string;
  readonly state: string;
  /** Why it is not let in; empty for the others. */
  readonly why: string;
  readonly shards: string;
  readonly phase: string;
  readonly step: number;
  readonly shardMillis: number;
  readonly images: number;
  readonly residentBytes: number;
}

/** What GetStatus answers, as JSON. */
export interface Status {
  readonly run: string;
  readonly term: number;
  readonly phase: string;
  readonly view: string | null;
  readonly step: number;
  readonly steps: number;
  readonly stepsPerEpoch: number;
  readonly loss: number | null;
  readonly accuracy: number | null;
  readonly imagesPerSecond: number | null;
  readonly secondsPerStep: number | null;
  readonly evaluation: { readonly done: number; readonly batches: number } | null;
  /** The newest validation on held-out images. */
  readonly validation: { readonly step: number; readonly accuracy: number } | null;
  readonly checkpoint: number | null;
  readonly waiting: string | null;
  readonly workers: readonly WorkerRow[];
  readonly messages: readonly { readonly time: string; readonly text: string }[];
}

/** One line for people; null for what is of no interest to them. */
export function sentenceOfEvent(event: RunEvent): string | null {
  switch (event.type) {
    case "worker":
      return event.change === "connected"
        ? null
        : `worker ${event.name} ${event.change}${event.why === "" ? "" : `: ${event.why}`}`;
    case "view":
      return `view ${event.id} from step ${event.step ?? "?"} (${event.reason}): ${Object.entries(event.shards)
        .map(([name, shards]) => `${name} ${shards}`)
        .join(", ")}`;
    case "heal":
      return null;
    case "mismatch":
      return `mismatch at step ${event.step}: ${event.detail}`;
    case "checkpoint":
      return event.state === "requested"
        ? null
        : `checkpoint of step ${event.step} ${event.state}${event.detail === "" ? "" : `: ${event.detail}`}`;
    case "validation":
      return event.accuracy === null
        ? `the state of step ${event.step} was not validated: whoever held it was lost`
        : `validation of step ${event.step}: ${(100 * event.accuracy).toFixed(2)} % of ${event.samples} held-out images`;
    case "fallback":
      return `back from step ${event.fromStep} to ${event.toStep}: ${event.reason}`;
    case "waiting":
      return `waiting: ${event.detail}`;
    case "phase":
      return `${event.phase}: ${event.detail}`;
    default:
      return event satisfies never;
  }
}
