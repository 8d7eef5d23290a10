import type { Broadcaster } from "../shared/broadcast/broadcaster.ts";
import type { Config } from "../shared/config/schema.ts";
import { METRICS, Metrics } from "../shared/metrics/registry.ts";
import { viewReason } from "../shared/metrics/view-reason.ts";
import type { LedgerEntry } from "../shared/protocol/trailer.ts";
import { viewName } from "../shared/protocol/view.ts";
import { version } from "../shared/version.ts";
import type { RunEvent } from "./machine/state.ts";
import type { Ruler } from "./ruler.ts";

const MOST_MESSAGES = 50;

/** What is shown of a run: metrics and the status that `up`, `status` and the pages ask for. */
export class Account {
  readonly metrics = new Metrics("coordinator");
  private readonly config: Config;
  private last: LedgerEntry | null = null;
  private readonly finals: { readonly at: number; readonly images: number }[] = [];
  private readonly messages: { readonly time: string; readonly text: string }[] = [];
  private evaluated = 0;

  constructor(config: Config) {
    this.config = config;
    const { metrics } = this;
    metrics.set("lockstep_build_info", 1, { part: "coordinator", version, node: process.version });
    metrics.set("lockstep_run_info", 1, {
      run: config.runId,
      model: config.recipe.model.name,
      recipe: config.recipe.recipe,
    });
    metrics.set("lockstep_planned_steps", config.recipe.steps);
  }

  rules(term: number): void {
    this.metrics.set("lockstep_term", term);
  }

  onFinal(entry: LedgerEntry): void {
    const { metrics, config } = this;
    const images = sum(entry, "samples");
    this.last = entry;
    this.finals.push({ at: performance.now(), images });
    if (this.finals.length > 50) this.finals.shift();
    metrics.add("lockstep_steps_total", 1, { outcome: entry.applied ? "applied" : "skipped" });
    metrics.add("lockstep_trained_images_total", images);
    metrics.set("lockstep_step", entry.step + 1);
    metrics.set("lockstep_epoch", Math.floor(entry.step / config.recipe.stepsPerEpoch));
    metrics.set("lockstep_loss", entry.loss);
    metrics.set("lockstep_training_accuracy_ratio", images === 0 ? 0 : sum(entry, "correct") / images);
    metrics.set("lockstep_learning_rate", config.recipe.learningRates[entry.step] ?? 0);
    metrics.set("lockstep_gradient_norm", entry.gradientNorm);
    metrics.set("lockstep_last_step_timestamp_seconds", Date.now() / 1000);
  }

  onEvent(event: RunEvent): void {
    const { metrics } = this;
    if (event.type === "view") {
      metrics.add("lockstep_view_changes_total", 1, {
        planned: event.planned ? "true" : "false",
        reason: viewReason(event.reason),
      });
      metrics.set("lockstep_view_number", Number(event.id.split(".")[1]));
    } else if (event.type === "worker" && event.change === "lost") {
      metrics.add("lockstep_member_losses_total", 1);
    } else if (event.type === "mismatch") {
      metrics.add("lockstep_mismatches_total", 1);
    } else if (event.type === "checkpoint" && event.state !== "requested") {
      metrics.add("lockstep_checkpoints_total", 1, { outcome: event.state });
      if (event.state === "stored") metrics.set("lockstep_checkpoint_step", event.step);
    }
    const text = sentenceOfEvent(event);
    if (text !== null) this.note(text);
  }

  /** A sentence that `up` and `status` show. */
  note(text: string): void {
    this.messages.push({ time: new Date().toISOString(), text });
    if (this.messages.length > MOST_MESSAGES) this.messages.shift();
  }

  collect(ruler: Ruler, broadcaster: Broadcaster | null): void {
    const { metrics } = this;
    const rows = this.rows(ruler);
    for (const state of METRICS.lockstep_members.labels.state) {
      metrics.set("lockstep_members", rows.filter((row) => row.state === state).length, { state });
    }
    metrics.set("lockstep_nats_connected", broadcaster?.connected ? 1 : 0);
    metrics.total("lockstep_nats_dropped_messages_total", broadcaster?.dropped ?? 0);
  }

  status(ruler: Ruler): Status {
    const { state } = ruler;
    const { recipe, runId } = this.config;
    const [first] = this.finals;
    const lastFinal = this.finals.at(-1);
    const seconds = first === undefined || lastFinal === undefined ? 0 : (lastFinal.at - first.at) / 1000;
    const images = this.finals.slice(1).reduce((total, final) => total + final.images, 0);
    const evaluated = state.evaluation?.done.size ?? this.evaluated;
    this.evaluated = evaluated;
    return {
      run: runId,
      term: state.settings.term,
      phase: state.phase,
      view: state.installed === null ? null : viewName(state.installed.id),
      step: ruler.recordedStep,
      steps: recipe.steps,
      stepsPerEpoch: recipe.stepsPerEpoch,
      loss: this.last?.loss ?? null,
      accuracy: this.last === null ? null : sum(this.last, "correct") / Math.max(1, sum(this.last, "samples")),
      imagesPerSecond: seconds > 0 ? images / seconds : null,
      secondsPerStep: this.finals.length > 1 ? seconds / (this.finals.length - 1) : null,
      evaluation:
        state.settings.evaluationBatches === 0 ? null : { done: evaluated, batches: state.settings.evaluationBatches },
      checkpoint: state.checkpoint?.step ?? null,
      waiting: state.change === null && state.installed !== null ? null : state.saidWaiting || null,
      workers: this.rows(ruler),
      messages: this.messages,
    };
  }

  private rows(ruler: Ruler): WorkerRow[] {
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
          pid: worker.pid,
          address: worker.address,
          httpAddress: worker.httpAddress,
          state: worker.connected ? joined : "away",
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
  readonly pid: number;
  readonly address: string;
  readonly httpAddress: string;
  readonly state: string;
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
  readonly checkpoint: number | null;
  readonly waiting: string | null;
  readonly workers: readonly WorkerRow[];
  readonly messages: readonly { readonly time: string; readonly text: string }[];
}

const sum = (entry: LedgerEntry, field: "samples" | "correct") =>
  entry.shards.reduce((total, shard) => total + shard[field], 0);

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
