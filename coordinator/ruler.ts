import type { Broadcaster } from "../shared/broadcast/broadcaster.ts";
import type { Config } from "../shared/config/schema.ts";
import { LockstepError, sentenceOf } from "../shared/errors.ts";
import type { ModelFacts, WorkerMessage } from "../shared/protocol/messages.ts";
import type { LedgerEntry } from "../shared/protocol/trailer.ts";
import type { Incarnation } from "../shared/protocol/view.ts";
import type { CheckpointStore } from "./checkpoints/store.ts";
import { step as advance } from "./machine/machine.ts";
import { createMachine, type MachineAction, type MachineEvent, type MachineState, type Outcome, type RunEvent } from "./machine/state.ts";
import type { FoldedHistory } from "./records/history.ts";
import type { DurableRecord } from "./records/record.ts";
import type { Store } from "./records/term-files.ts";
import type { RunDirectory } from "./run-directory.ts";
import type { Sessions } from "./sessions.ts";
import { isRefused, pullSnapshot } from "./worker-calls.ts";

export interface RulerParts {
  readonly config: Config;
  readonly directory: RunDirectory;
  readonly store: Store;
  readonly history: FoldedHistory;
  readonly checkpoints: CheckpointStore;
  readonly broadcaster: Broadcaster | null;
  readonly testImages: number;
  log(event: RunEvent | { readonly type: "note"; readonly text: string }): void;
  onFinal(entry: LedgerEntry): void;
  onFinish(outcome: Outcome): void;
}

/**
 * Rules a run: feeds the membership machine and performs what it decides, in order, each record durable before anything
 * that follows from it.
 */
export class Ruler {
  readonly state: MachineState;
  /** Ledger entries below this step are durable. */
  recordedStep: number;
  facts: ModelFacts | null = null;
  private readonly parts: RulerParts;
  private sessions: Sessions | null = null;
  private readonly queue: MachineAction[] = [];
  private pumping = false;
  private finished = false;

  constructor(parts: RulerParts) {
    this.parts = parts;
    const { config, history, store, testImages } = parts;
    const { recipe, place } = config;
    const batches = place.evaluation === null ? 0 : Math.ceil(testImages / place.evaluation.batch);
    this.state = createMachine(
      {
        term: store.term,
        shards: recipe.shards,
        totalSteps: recipe.steps,
        workers: place.workers,
        minWorkers: place.minWorkers,
        timing: place.timing,
        checkpointEverySteps: place.checkpoint.everySteps,
        evaluationBatches: batches,
      },
      history,
      performance.now(),
    );
    this.recordedStep = history.ledgerTip?.step ?? 0;
  }

  /** Starts to rule over these sessions. */
  start(sessions: Sessions): void {
    this.sessions = sessions;
    setInterval(() => this.feed({ kind: "tick" }), 100);
    setInterval(() => {
      const message = { kind: "heartbeat", term: this.state.settings.term, recorded: this.recordedStep } as const;
      for (const incarnation of sessions.incarnations) sessions.send(incarnation, message);
    }, this.parts.config.place.timing.heartbeatInterval);
  }

  hello(hello: Extract<WorkerMessage, { kind: "hello" }>): void {
    const { config } = this.parts;
    const { term } = this.state.settings;
    this.sessions!.send(hello.incarnation, { kind: "welcome", term, config, fingerprint: this.state.fingerprint });
    this.feed({ kind: "hello", hello });
  }

  message(from: Incarnation, message: WorkerMessage): void {
    if (message.kind === "ready") this.facts = message.facts;
    this.feed({ kind: "message", from, message });
  }

  feed(event: MachineEvent): void {
    if (this.finished) return;
    this.queue.push(...advance(this.state, event, performance.now()));
    if (!this.pumping) void this.pump();
  }

  private async pump(): Promise<void> {
    this.pumping = true;
    try {
      while (this.queue.length > 0) {
        const records: DurableRecord[] = [];
        const done: MachineAction[] = [];
        // Records that stand together share one flush.
        while (this.queue[0] !== undefined && recordsOf(this.queue[0]) !== null) {
          records.push(...recordsOf(this.queue[0])!);
          done.push(this.queue.shift()!);
        }
        if (records.length > 0) await this.parts.store.append(records);
        for (const action of done) this.recorded(action);
        const action = this.queue.shift();
        if (action !== undefined) this.perform(action);
      }
    } catch (error) {
      this.fail(error);
    }
    this.pumping = false;
  }

  private recorded(action: MachineAction): void {
    if (action.kind !== "recordFinal") return;
    for (const entry of action.entries) {
      this.recordedStep = entry.step + 1;
      this.parts.onFinal(entry);
    }
  }

  private perform(action: MachineAction): void {
    const { parts } = this;
    switch (action.kind) {
      case "send":
        return this.sessions!.send(action.to, action.message);
      case "close":
        return this.sessions!.close(action.incarnation);
      case "storeCheckpoint":
        return void this.storeCheckpoint(action);
      case "probe":
        return void isRefused(action.address).then((refused) => {
          if (refused) this.feed({ kind: "refused", incarnation: action.incarnation });
        });
      case "event":
        return parts.log(action.event);
      case "finish":
        this.finished = true;
        return void this.parts.store
          .append([{ kind: "end", outcome: action.outcome.kind, time: Date.now() }])
          .catch(() => {})
          .then(() => parts.onFinish(action.outcome));
      case "recordView":
      case "recordFinal":
      case "recordFirst":
      case "recordTruncate":
        return;
      default:
        return action satisfies never;
    }
  }

  private async storeCheckpoint({ from, tip, bytes }: Extract<MachineAction, { kind: "storeCheckpoint" }>): Promise<void> {
    const { config, checkpoints, store } = this.parts;
    const worker = this.state.workers.get(from);
    try {
      if (worker === undefined || this.facts === null) throw new LockstepError("LS_SNAPSHOT", "The worker that holds the snapshot is gone.");
      const pieces = pullSnapshot(worker.address, config.runId, tip, bytes);
      const record = await checkpoints.write(tip, config.runId, this.facts, pieces);
      await store.append([{ kind: "checkpoint", ...record }]);
      await checkpoints.recorded(record);
      this.feed({ kind: "checkpointStored", tip });
    } catch (error) {
      this.feed({ kind: "checkpointFailed", tip, reason: sentenceOf(error) });
    }
  }

  private fail(error: unknown): void {
    this.finished = true;
    const code = error instanceof LockstepError ? error.code : "LS_COORDINATOR";
    this.parts.onFinish({ kind: "failed", code, message: sentenceOf(error) });
  }
}

function recordsOf(action: MachineAction): DurableRecord[] | null {
  const time = Date.now();
  switch (action.kind) {
    case "recordView":
      return [{ kind: "view", view: action.view as never, base: action.base, reason: action.reason, time }];
    case "recordFinal":
      return action.entries.map((entry) => ({ kind: "final", entry: plainEntry(entry), time }));
    case "recordFirst":
      return [{ kind: "first", fingerprint: [...action.fingerprint], root: action.root }];
    case "recordTruncate":
      return [{ kind: "truncate", tip: action.tip }];
    default:
      return null;
  }
}

const finite = (value: number) => (Number.isFinite(value) ? value : null);
const plainEntry = (entry: LedgerEntry) => ({
  ...entry,
  shards: entry.shards.map((shard) => ({ ...shard })),
  loss: finite(entry.loss),
  gradientNorm: finite(entry.gradientNorm),
});
