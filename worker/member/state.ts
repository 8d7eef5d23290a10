import type { Guard } from "../../shared/protocol/guards.ts";
import type { CoordinatorMessage, WorkerMessage } from "../../shared/protocol/messages.ts";
import type { LedgerEntry, ShardRecord, Trailer } from "../../shared/protocol/trailer.ts";
import type { Incarnation, Tip, View, ViewId } from "../../shared/protocol/view.ts";

/** What the machine of one worker's membership is told. */
export type MemberEvent =
  | { readonly kind: "coordinator"; readonly message: CoordinatorMessage }
  /** The session stream is up again after a redial (or for the first time). */
  | { readonly kind: "reconnected" }
  | { readonly kind: "trailer"; readonly trailer: Trailer }
  /** A peer runs this step of this view: a planned view took effect. */
  | { readonly kind: "active"; readonly view: ViewId; readonly step: number }
  /** All segments of the step's reduced vector are in. */
  | { readonly kind: "reduced"; readonly view: ViewId; readonly step: number }
  /** A peer's data failed its checksum. */
  | { readonly kind: "corrupt"; readonly view: ViewId; readonly step: number; readonly from: Incarnation }
  | { readonly kind: "lost"; readonly view: ViewId; readonly peer: Incarnation; readonly refused: boolean }
  /** The last backward pass is done and the state on which it ran was hashed. */
  | {
      readonly kind: "computed";
      readonly view: ViewId;
      readonly step: number;
      readonly shards: readonly ShardRecord[];
      readonly stateHash: string;
    }
  /** The update of a committed step has ended. */
  | { readonly kind: "updated"; readonly view: ViewId; readonly step: number; readonly outcome: StepOutcome }
  /** The commit word is closed, no update is running, and the state was hashed afresh. */
  | { readonly kind: "closed"; readonly stateHash: string }
  /** The state was hashed at rest, as `hash` asked. */
  | { readonly kind: "hashed"; readonly step: number; readonly stateHash: string }
  /**
   * A pull of the state ended; `stateHash` of what was pulled, null where it did not succeed in its time. With the state
   * come the ledger entries that the peer keeps for the coordinator.
   */
  | {
      readonly kind: "pulled";
      readonly view: ViewId;
      readonly step: number;
      readonly stateHash: string | null;
      readonly entries: readonly LedgerEntry[];
    }
  | { readonly kind: "restored"; readonly tip: Tip }
  /** The process was asked to leave (SIGTERM). */
  | { readonly kind: "leave"; readonly reason: string };

export interface StepOutcome {
  /** The chain after the step, from the digests that the trailers carried and the reduced vector. */
  readonly lineage: string;
  /** Hash of the state right after the update, against which later hashes are held. */
  readonly stateHash: string;
  readonly loss: number;
  readonly gradientNorm: number;
  readonly applied: boolean;
}

/** What the machine asks the process to do, in this order. */
export type MemberAction =
  | { readonly kind: "send"; readonly message: WorkerMessage }
  | { readonly kind: "openStreams"; readonly view: View }
  | { readonly kind: "closeStreams"; readonly view: ViewId }
  /** Opens the commit word on (view, step) and tells the view's peers. */
  | { readonly kind: "begin"; readonly view: View; readonly step: number }
  /** Computes this member's shards of the step (possibly none), then answers `computed`. */
  | { readonly kind: "compute"; readonly view: View; readonly step: number }
  /** Pulls the state at `step` from these members, then answers `pulled`. */
  | { readonly kind: "pull"; readonly view: View; readonly step: number; readonly from: readonly string[] }
  | { readonly kind: "publishTrailer"; readonly trailer: Trailer }
  /** Lets the compute thread commit and update; answers `updated`, unless the word is closed before. */
  | {
      readonly kind: "commit";
      readonly view: ViewId;
      readonly step: number;
      readonly parent: string;
      readonly shards: readonly ShardRecord[];
    }
  /** Closes the commit word; answers `closed`, after `updated` where an update was running. */
  | { readonly kind: "close" }
  | { readonly kind: "hash"; readonly step: number }
  | { readonly kind: "restore"; readonly tip: Tip }
  /** A step became final. */
  | { readonly kind: "final"; readonly entry: LedgerEntry }
  /** The coordinator let this worker go. */
  | { readonly kind: "exit"; readonly reason: string }
  /** A step is not committed until the coordinator has recorded earlier ones. */
  | { readonly kind: "stalled"; readonly step: number; readonly unrecorded: number };

/** The step under way. */
export interface StepState {
  readonly step: number;
  /** This member's state is the view's: its hash counts, its shards are computed on it. */
  level: boolean;
  /** A pull is under way or was given up in this step. */
  pull: "none" | "pulling" | "done" | "failed";
  computed: boolean;
  reduced: boolean;
  /** The trailers differed or data was corrupt: nobody commits, a new view will come. */
  blocked: boolean;
  /** It waits for the coordinator's records, and has said so. */
  stalled: boolean;
  readonly trailers: Map<Incarnation, Trailer>;
}

export interface MemberState {
  /** Guards taken away by the simulation to show that it notices; always empty in a process. */
  readonly without: ReadonlySet<Guard>;
  readonly self: Incarnation;
  /** Steps of the whole run. */
  readonly totalSteps: number;
  term: number;
  promised: ViewId | null;
  view: View | null;
  tip: Tip;
  whole: boolean;
  word: "closed" | "open" | "committing";
  step: StepState | null;
  /** The view before a planned switch, whose streams stay open until the first commit after it. */
  left: ViewId | null;
  /** Announced inside the present view. */
  plan: View | null;
  /** prepare(id) that is answered when the word is closed. */
  answering: ViewId | null;
  /** Set while the state is at rest: the run's end, a stop view, or this worker left its view. */
  idle: boolean;
  leaving: string | null;
  /** Trailers of the present and of planned views that came before their step began. */
  early: Trailer[];
  /** The reduced vector of a step to come is in already: a member without shards may be last to begin. */
  earlyReduced: { readonly view: ViewId; readonly step: number } | null;
  /** Committed entries that the coordinator has not recorded, oldest first. */
  kept: LedgerEntry[];
  /** Entries below this step were found final by this member. */
  finalBelow: number;
  recorded: number;
  /** Sent again after a redial, since nobody commits until a new view comes. */
  complaint: WorkerMessage | null;
}

/** Views whose streams are open at a time: one that is left, the one under way, its planned successor, one between. */
export const MOST_OPEN_VIEWS = 4;

/** Entries kept for a coordinator that is away; at the bound the member stops and says so. */
export const KEPT_BOUND = 4096;

export function createMember(
  self: Incarnation,
  totalSteps: number,
  tip: Tip,
  without: ReadonlySet<Guard> = new Set(),
): MemberState {
  return {
    without,
    self,
    totalSteps,
    term: 0,
    promised: null,
    view: null,
    tip,
    whole: true,
    word: "closed",
    step: null,
    left: null,
    plan: null,
    answering: null,
    idle: false,
    leaving: null,
    early: [],
    earlyReduced: null,
    kept: [],
    finalBelow: 0,
    recorded: 0,
    complaint: null,
  };
}
