import type { Broadcaster } from "../shared/broadcast/broadcaster.ts";
import type { Config } from "../shared/config/schema.ts";
import { refusalCode } from "../shared/metrics/refusal-code.ts";
import { METRICS, Metrics } from "../shared/metrics/registry.ts";
import { viewReason } from "../shared/metrics/view-reason.ts";
import { type LedgerEntry, tallyOf } from "../shared/protocol/trailer.ts";
import { version } from "../shared/version.ts";
import type { DiskWatch } from "./disk-watch.ts";
import type { ValidationLine } from "./files/validations-file.ts";
import type { RunEvent } from "./machine/state.ts";
import { PauseWatch } from "./pause-watch.ts";
import type { Ruler } from "./ruler.ts";
import { stragglerRatios } from "./straggler.ts";

/** Workers with series of their own; where names are made anew for each life, they would grow without bound. */
const MOST_NAMES = 1024;
/** Lost workers that are remembered. */
const MOST_MISSING = 256;

/** States of a worker that is there and has loaded everything. */
const PRESENT: readonly string[] = ["computing", "joining", "standby"];

/** What a scrape looks at beside the events. */
export interface Scraped {
  readonly ruler: Pick<Ruler, "state">;
  readonly workers: readonly {
    readonly name: string;
    readonly incarnation: string;
    readonly host: string;
    readonly state: string;
    readonly shardMillis: number;
  }[];
  readonly broadcaster: Pick<Broadcaster, "connected" | "dropped"> | null;
  readonly disk: Pick<DiskWatch, "room">;
}

/** The coordinator's metrics of a run: counted as events come, looked up when they are scraped. */
export class RunMetrics {
  readonly metrics = new Metrics("coordinator");
  readonly #config: Config;
  readonly #pauses = new PauseWatch();
  readonly #missing = new Set<string>();
  readonly #names = new Set<string>();
  #mismatch = false;
  #checkpointAsked: number | null = null;

  constructor(config: Config) {
    this.#config = config;
    const { metrics } = this;
    const { recipe, place, runId } = config;
    metrics.set("lockstep_build_info", 1, { part: "coordinator", version, node: process.version });
    metrics.set("lockstep_run_info", 1, { run: runId, model: recipe.model.name, recipe: recipe.recipe });
    metrics.set("lockstep_planned_steps", recipe.steps);
    metrics.set("lockstep_shards", recipe.shards);
    metrics.set("lockstep_expected_workers", place.workers);
    metrics.set("lockstep_min_workers", place.minWorkers);
    metrics.set("lockstep_checkpoint_interval_steps", place.checkpoint.everySteps);
  }

  /** Where the run stands when this reign begins. `checkpoint`: the newest usable one. */
  rules(term: number, steps: number, checkpoint: { readonly step: number; readonly time: number } | null): void {
    const { metrics } = this;
    metrics.set("lockstep_term", term);
    metrics.set("lockstep_step", steps);
    if (checkpoint === null) return;
    metrics.set("lockstep_checkpoint_step", checkpoint.step);
    metrics.set("lockstep_checkpoint_timestamp_seconds", checkpoint.time / 1000);
  }

  refused(code: string): void {
    this.metrics.add("lockstep_refused_total", 1, { code: refusalCode(code) });
  }

  stalled(full: boolean): void {
    this.metrics.set("lockstep_records_stalled", full ? 1 : 0);
  }

  final(entry: LedgerEntry): void {
    const { metrics } = this;
    const { recipe } = this.#config;
    const { images, accuracy } = tallyOf(entry.shards);
    metrics.add("lockstep_steps_total", 1, { outcome: entry.applied ? "applied" : "skipped" });
    metrics.add("lockstep_trained_images_total", images);
    metrics.set("lockstep_step", entry.step + 1);
    metrics.set("lockstep_epoch", Math.floor(entry.step / recipe.stepsPerEpoch));
    metrics.set("lockstep_loss", entry.loss);
    metrics.set("lockstep_training_accuracy_ratio", accuracy);
    metrics.set("lockstep_learning_rate", recipe.learningRates[entry.step] ?? 0);
    metrics.set("lockstep_gradient_norm", entry.gradientNorm);
    metrics.set("lockstep_last_step_timestamp_seconds", Date.now() / 1000);
    const pause = this.#pauses.final(performance.now());
    if (pause !== null) metrics.observe("lockstep_pause_seconds", pause.seconds, { planned: flag(pause.planned) });
  }

  /** A validation on held-out images that came about. */
  validation({ step, accuracy, loss }: Pick<ValidationLine, "step" | "accuracy" | "loss">): void {
    const { metrics } = this;
    metrics.set("lockstep_validation_step", step);
    metrics.set("lockstep_validation_accuracy_ratio", accuracy ?? Number.NaN);
    metrics.set("lockstep_validation_loss", loss ?? Number.NaN);
  }

  event(event: RunEvent): void {
    const { metrics } = this;
    switch (event.type) {
      case "view":
        metrics.add("lockstep_view_changes_total", 1, {
          planned: flag(event.planned),
          reason: viewReason(event.reason),
        });
        metrics.set("lockstep_view_number", Number(event.id.split(".")[1]));
        this.#healed(event.shards);
        return this.#pauses.view(event.planned);
      case "worker":
        return this.#worker(event);
      case "heal":
        return metrics.observe("lockstep_heal_seconds", event.agreementMillis / 1000);
      case "mismatch":
        this.#mismatch = true;
        return metrics.add("lockstep_mismatches_total", 1);
      case "fallback":
        return metrics.add("lockstep_fallbacks_total", 1);
      case "validation":
        return metrics.observe("lockstep_validation_seconds", event.seconds);
      case "checkpoint":
        return this.#checkpoint(event);
      default:
        return;
    }
  }

  scrape({ ruler, workers, broadcaster, disk }: Scraped): void {
    const { metrics } = this;
    const { state } = ruler;
    for (const phase of METRICS.lockstep_phase.labels.phase) {
      metrics.set("lockstep_phase", state.phase === phase ? 1 : 0, { phase });
    }
    for (const name of METRICS.lockstep_members.labels.state) {
      metrics.set("lockstep_members", workers.filter((row) => row.state === name).length, { state: name });
    }
    metrics.set("lockstep_waiting", state.waiting === null ? 0 : 1);
    metrics.replace(
      "lockstep_worker_info",
      workers.map(({ name, incarnation, host }) => [{ worker: name, peer: incarnation, host }, 1] as const),
    );
    const computing = workers.filter((row) => row.state === "computing");
    metrics.replace(
      "lockstep_straggler_ratio",
      stragglerRatios(computing).map(([worker, ratio]) => [{ worker }, ratio] as const),
    );
    // Also the one that was frozen and thaws: it comes back without loading anything.
    const present = workers.filter((row) => PRESENT.includes(row.state));
    for (const row of present) this.#missing.delete(row.name);
    // Others have taken the places: in a cluster whoever replaces a worker has a name of its own.
    if (present.length >= this.#config.place.workers) this.#missing.clear();
    metrics.replace(
      "lockstep_worker_missing",
      [...this.#missing].map((worker) => [{ worker }, 1] as const),
    );
    metrics.set("lockstep_nats_connected", broadcaster?.connected ? 1 : 0);
    metrics.total("lockstep_nats_dropped_messages_total", broadcaster?.dropped ?? 0);
    if (disk.room !== null) {
      metrics.set("lockstep_disk_free_bytes", disk.room.free);
      metrics.set("lockstep_disk_size_bytes", disk.room.size);
    }
    metrics.set("lockstep_evaluation_batches", state.evaluation?.done.size ?? 0, { state: "done" });
    metrics.set("lockstep_evaluation_batches", state.settings.evaluationBatches, { state: "planned" });
  }

  #worker({ change, name, worker }: Extract<RunEvent, { type: "worker" }>): void {
    if (change === "lost") {
      this.metrics.add("lockstep_member_losses_total", 1, { worker: this.#label(name) });
      // Of the reign before: its name is not known, so that nobody could say that it is back.
      if (name === worker) return;
      // The newest last, so that the oldest goes first.
      this.#missing.delete(name);
      this.#missing.add(name);
      const [oldest] = this.#missing;
      if (this.#missing.size > MOST_MISSING) this.#missing.delete(oldest!);
    } else if (change === "left") this.#missing.delete(name);
    else if (change === "connected") this.#label(name);
  }

  /** Whoever has to get level in the view that ends a mismatch was the one that differed. */
  #healed(shards: Readonly<Record<string, string>>): void {
    if (!this.#mismatch) return;
    this.#mismatch = false;
    for (const [name, range] of Object.entries(shards)) {
      if (range === "joining") this.metrics.add("lockstep_replicas_healed_total", 1, { worker: this.#label(name) });
    }
  }

  /** The label of a worker. Its counters begin at 0, so that rate() and increase() see its first event. */
  #label(name: string): string {
    if (this.#names.has(name)) return name;
    if (this.#names.size >= MOST_NAMES) return "other";
    this.#names.add(name);
    this.metrics.add("lockstep_member_losses_total", 0, { worker: name });
    this.metrics.add("lockstep_replicas_healed_total", 0, { worker: name });
    return name;
  }

  #checkpoint({ state, step }: Extract<RunEvent, { type: "checkpoint" }>): void {
    const { metrics } = this;
    if (state === "requested") {
      this.#checkpointAsked = performance.now();
      return;
    }
    metrics.add("lockstep_checkpoints_total", 1, { outcome: state });
    if (state !== "stored") return;
    metrics.set("lockstep_checkpoint_step", step);
    metrics.set("lockstep_checkpoint_timestamp_seconds", Date.now() / 1000);
    if (this.#checkpointAsked === null) return;
    metrics.observe("lockstep_checkpoint_write_seconds", (performance.now() - this.#checkpointAsked) / 1000);
    this.#checkpointAsked = null;
  }
}

const flag = (value: boolean) => (value ? "true" : "false");
