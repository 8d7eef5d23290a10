import type { Balance, Timing } from "../../shared/config/schema.ts";
import type { ValidationPlan } from "../../shared/config/validation.ts";
import type { RUN_PHASES } from "../../shared/metrics/table.ts";
import type { Guard } from "../../shared/protocol/guards.ts";
import type { CoordinatorMessage, Progress, Standing, WorkerMessage } from "../../shared/protocol/messages.ts";
import type { LedgerEntry } from "../../shared/protocol/trailer.ts";
import type { Incarnation, Tip, View, ViewId } from "../../shared/protocol/view.ts";
import type { BestState } from "./best.ts";
import type { Gap } from "./gap.ts";
import type { Validating, Validation } from "./validate.ts";
import type { Waiting } from "./waiting.ts";

/** What the coordinator's decisions depend on, fixed for one reign. */
export interface Settings {
  /** Guards taken away by the simulation to show that it notices; never in a process. */
  readonly without?: ReadonlySet<Guard>;
  readonly term: number;
  /** V. */
  readonly shards: number;
  /** Steps of the whole run. */
  readonly totalSteps: number;
  /** How many workers the first view waits for. */
  readonly workers: number;
  readonly minWorkers: number;
  readonly timing: Timing;
  readonly balance: Balance;
  readonly checkpointEverySteps: number;
  /** Number of fixed evaluation batches; 0 without evaluation. */
  readonly evaluationBatches: number;
  /** States of how many steps are validated, in how many fixed batches; missing or null without validation. */
  readonly validation?: ValidationPlan | null;
  /** A person starts the run again: who was in its last view was let go, or ended with it, and is not missed. */
  readonly resumed?: boolean;
}

/** What older terms left in the records. */
export interface History {
  /** The newest views, oldest first, as recorded before they were installed or announced. */
  readonly views: readonly View[];
  /** End of the recorded line: final steps, contiguous from 0. */
  readonly ledgerTip: Tip | null;
  /** Steps at the end of that line that were not applied, since they were not finite. */
  readonly skipped: number;
  /** The newest usable checkpoint. */
  readonly checkpoint: Tip | null;
  readonly fingerprint: readonly string[] | null;
  readonly root: string | null;
  /** The newest step whose validation is recorded; missing where none is. */
  readonly validated?: number;
  /** Recorded tips of the final steps whose validation is due, the next one first. */
  readonly validationDue?: readonly Tip[];
  /** The best validation of the surviving line, and the steps of those that came after it. */
  readonly best?: BestState | null;
  readonly sinceBest?: readonly number[];
}

export type MachineEvent =
  | { readonly kind: "hello"; readonly hello: Extract<WorkerMessage, { kind: "hello" }> }
  | { readonly kind: "message"; readonly from: Incarnation; readonly message: WorkerMessage }
  | { readonly kind: "disconnected"; readonly incarnation: Incarnation }
  /** A probe of the worker's address was refused: no process listens there. */
  | { readonly kind: "refused"; readonly incarnation: Incarnation }
  | { readonly kind: "tick" }
  | { readonly kind: "checkpointStored"; readonly tip: Tip }
  | { readonly kind: "checkpointFailed"; readonly tip: Tip; readonly reason: string }
  /** A checkpoint failed verification and will not be used; `next` is the one before it. */
  | { readonly kind: "checkpointLost"; readonly tip: Tip; readonly next: Tip | null }
  | { readonly kind: "stop"; readonly reason: string };

export type MachineAction =
  | { readonly kind: "send"; readonly to: Incarnation; readonly message: CoordinatorMessage }
  | { readonly kind: "close"; readonly incarnation: Incarnation; readonly reason: string }
  /** Made durable before any later action of the list is performed. */
  | { readonly kind: "recordView"; readonly view: View; readonly base: Tip | null; readonly reason: string }
  | { readonly kind: "recordFinal"; readonly entries: readonly LedgerEntry[] }
  | { readonly kind: "recordValidation"; readonly validation: Validation }
  | { readonly kind: "recordFirst"; readonly fingerprint: readonly string[]; readonly root: string }
  /** Final steps from this one on do not count any more: the run falls back to this tip. */
  | { readonly kind: "recordTruncate"; readonly tip: Tip }
  /** The run ends at its newest usable checkpoint of at most `before` steps; where there is none, where it is. */
  | { readonly kind: "retreat"; readonly before: number; readonly reason: string; readonly keepsValidations?: boolean }
  | { readonly kind: "storeCheckpoint"; readonly from: Incarnation; readonly tip: Tip; readonly bytes: number }
  | { readonly kind: "probe"; readonly incarnation: Incarnation; readonly address: string }
  /** One line for people, events.ndjson and the broadcast. */
  | { readonly kind: "event"; readonly event: RunEvent }
  | { readonly kind: "finish"; readonly outcome: Outcome };

export type Outcome =
  | { readonly kind: "done" }
  | { readonly kind: "stopped"; readonly reason: string }
  | { readonly kind: "failed"; readonly code: `LS_${string}`; readonly message: string };

export type RunEvent =
  | {
      readonly type: "worker";
      readonly change: "connected" | "ready" | "refused" | "lost" | "left" | "standby";
      readonly worker: Incarnation;
      readonly name: string;
      readonly why: string;
    }
  | {
      readonly type: "view";
      readonly id: string;
      readonly planned: boolean;
      readonly reason: string;
      readonly step: number | null;
      readonly members: number;
      readonly shards: Readonly<Record<string, string>>;
    }
  | { readonly type: "heal"; readonly id: string; readonly reason: string; readonly agreementMillis: number }
  | { readonly type: "mismatch"; readonly step: number; readonly detail: string }
  | {
      readonly type: "checkpoint";
      readonly step: number;
      readonly state: "requested" | "stored" | "failed";
      readonly detail: string;
    }
  | {
      readonly type: "validation";
      readonly step: number;
      /** Both null where whoever held that state was lost. */
      readonly accuracy: number | null;
      readonly loss: number | null;
      readonly samples: number;
      readonly seconds: number;
    }
  | { readonly type: "fallback"; readonly fromStep: number; readonly toStep: number; readonly reason: string }
  | { readonly type: "waiting"; readonly detail: string }
  | { readonly type: "phase"; readonly phase: Phase; readonly detail: string };

export type Phase = (typeof RUN_PHASES)[number];

export interface WorkerEntry {
  readonly incarnation: Incarnation;
  readonly name: string;
  readonly host: string;
  readonly address: string;
  readonly httpAddress: string;
  readonly pid: number;
  readonly joinedAt: number;
  connected: boolean;
  disconnectedAt: number;
  lastHeard: number;
  /** Loaded everything and admitted by its fingerprint. */
  ready: boolean;
  /** Its last promise is answered and it is in no view, so a plan may name it. */
  free: boolean;
  /** It was said that there is no room for it now. */
  standby: boolean;
  /** Highest view that it had promised when it dialled. */
  readonly promised: ViewId | null;
  standing: Standing | null;
  progress: Progress | null;
  /** How fast it was when it last had shards; null before. */
  speed: Speed | null;
  /** Standing sent with `idle`. */
  idle: Standing | null;
  /** The state whose weights it keeps aside for validation; null where it has not said so on its present stream. */
  held: Tip | null;
  /** Bytes of that state's image, where all of it is kept; else 0. */
  heldBytes: number;
  leaving: string | null;
  leavingAt: number;
  evicted: boolean;
  evictions: number;
  /** Views that it held up, by no step or no answer, since it last computed a shard of a final step. */
  heldUp: number;
  /** Not admitted to a view before this time. */
  notBefore: number;
}

export interface Speed {
  /** Microseconds of one shard, whole and above 0. */
  readonly micros: number;
  /** Since when it has had no shards; null while it has some. */
  readonly restingSince: number | null;
  /** How often it was given shards again after a rest. */
  readonly returns: number;
}

/** An unplanned change under way. */
export interface Change {
  readonly id: ViewId;
  readonly reason: string;
  readonly since: number;
  /** Members whose answer, or whose loss, is still to come, and since when. */
  readonly waiting: Map<Incarnation, number>;
  readonly answers: Map<Incarnation, Standing>;
  /** Workers that are loading a checkpoint; null while none is needed. */
  restoring: { readonly tip: Tip; readonly waiting: Map<Incarnation, number> } | null;
}

export interface Planned {
  readonly view: View;
  readonly reason: string;
  readonly predecessor: View;
  readonly switched: Set<Incarnation>;
  step: number | null;
}

export interface MachineState {
  readonly settings: Settings;
  number: number;
  /** Views of older terms that may still run. */
  readonly inherited: readonly View[];
  installed: View | null;
  installedBase: Tip | null;
  installedAt: number;
  planned: Planned | null;
  change: Change | null;
  /** Set from the decision to fall back until the next install: states other than this one do not count. */
  fallback: Tip | null;
  readonly workers: Map<Incarnation, WorkerEntry>;
  ledger: Tip | null;
  /** Final steps at the end of the ledger that were not applied. */
  skipped: number;
  /** Null while members report the step that is due. */
  gap: Gap | null;
  /** State hashes of the newest final steps, by step count. */
  readonly recent: Map<number, Tip>;
  checkpoint: Tip | null;
  /** Asked of this worker; `tip` once it holds the snapshot; storing while it is pulled. */
  snapshot: {
    readonly from: Incarnation;
    tip: Tip | null;
    bytes: number;
    storing: boolean;
    readonly since: number;
    /** It is what that worker keeps for validation, which may be older than its state. */
    readonly kept?: true;
  } | null;
  /** Failures in a row; the last checkpoint of a run is tried again a bounded number of times. */
  checkpointFailures: number;
  /** No snapshot is asked for before this time: a disk that is full is not tried again at once. */
  snapshotNotBefore: number;
  fingerprint: readonly string[] | null;
  root: string | null;
  stopping: string | null;
  phase: Phase;
  /** Null until the run is finished. */
  outcome: Outcome | null;
  /** Evaluation batches not yet given out, and those given out by batch. */
  evaluation: {
    readonly queue: number[];
    readonly given: Map<number, Incarnation>;
    readonly done: Set<number>;
  } | null;
  /** The newest step whose validation is recorded or was given up. */
  validated: number;
  validating: Validating | null;
  best: BestState | null;
  /** Steps of the validations since the best one, as many as the recipe has patience for. */
  sinceBest: number[];
  startedAt: number;
  firstReadyAt: number | null;
  graceUntil: number;
  lastTick: number;
  /** Last time a step of the run moved. */
  progressAt: number;
  progressStep: number;
  /** For whom the run waits; null while it goes on. */
  waiting: Waiting | null;
  /** Since when all members but joiners rest; null while some do not. */
  restingSince: number | null;
  readonly balancing: {
    /** Step since which another split has promised enough; null while none does. */
    since: number | null;
    /** Steps at which shards were moved for speed, as far back as they count. */
    moves: number[];
  };
}

export function createMachine(settings: Settings, history: History, now: number): MachineState {
  const takeOver = history.views.length > 0;
  return {
    settings,
    number: 0,
    inherited: history.views,
    installed: null,
    installedBase: null,
    installedAt: now,
    planned: null,
    change: null,
    fallback: null,
    workers: new Map(),
    ledger: history.ledgerTip,
    skipped: history.skipped,
    gap: null,
    recent: new Map(
      [history.ledgerTip, ...(history.validationDue ?? [])].flatMap((tip) => (tip === null ? [] : [[tip.step, tip]])),
    ),
    checkpoint: history.checkpoint,
    snapshot: null,
    checkpointFailures: 0,
    snapshotNotBefore: now,
    fingerprint: history.fingerprint,
    root: history.root,
    stopping: null,
    ...{ phase: "forming" as const, outcome: null },
    evaluation: null,
    validated: validatedUntil(settings, history),
    validating: null,
    best: history.best ?? null,
    sinceBest: settings.validation?.patience == null ? [] : [...(history.sinceBest ?? [])],
    startedAt: now,
    firstReadyAt: null,
    graceUntil: takeOver ? now + 2 * settings.timing.heartbeatTimeout : now,
    lastTick: now,
    progressAt: now,
    progressStep: -1,
    waiting: null,
    restingSince: null,
    balancing: { since: null, moves: [] },
  };
}

/**
 * States before the newest checkpoint will not be passed by again: those that were not validated when it was stored belong to
 * the run of which this one is a fork, or to a time when nothing was validated.
 */
function validatedUntil({ validation }: Settings, { validated = 0, checkpoint }: History): number {
  if (validation == null || checkpoint === null) return validated;
  const { everySteps } = validation;
  return Math.max(validated, Math.floor((checkpoint.step - 1) / everySteps) * everySteps);
}

/** One run of the machine: the state that moves, the time, and what is to be done, in order. */
export interface Turn {
  readonly state: MachineState;
  /** Milliseconds on the coordinator's monotonic clock. */
  readonly now: number;
  readonly actions: MachineAction[];
}

export const say = (turn: Turn, event: RunEvent): void => {
  turn.actions.push({ kind: "event", event });
};
export const send = (turn: Turn, to: Incarnation, message: CoordinatorMessage): void => {
  turn.actions.push({ kind: "send", to, message });
};
export const guarded = (turn: Turn, guard: Guard): boolean => !turn.state.settings.without?.has(guard);
export const nextId = (turn: Turn): ViewId => {
  if (guarded(turn, "new-id-each-time") || turn.state.number === 0) turn.state.number += 1;
  return { term: turn.state.settings.term, number: turn.state.number };
};
/** Of a worker that is known no more, its incarnation. */
export const nameOf = (state: MachineState, incarnation: Incarnation): string =>
  state.workers.get(incarnation)?.name ?? incarnation;
