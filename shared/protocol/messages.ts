import type { Config } from "../config/schema.ts";
import type { LedgerEntry, Trailer } from "./trailer.ts";
import type { Incarnation, Tip, View, ViewId } from "./view.ts";

/**
 * What a worker and the coordinator say to each other on the session stream. proto/lockstep.proto is the wire form;
 * these unions are the parsed form on which all decisions are made.
 */

/** Reason of a release because the run has failed: whoever starts it again wants its workers back. */
export const RUN_FAILED = "failed";

/** What some weights make of some held-out images; the loss is a sum in nats, without label smoothing, NaN where it is not finite. */
export type HeldOutCounts = {
  readonly samples: number;
  readonly correct: number;
  readonly loss: number;
};

export type WorkerMessage =
  /** First on every new stream, also after a redial. */
  | {
      readonly kind: "hello";
      readonly incarnation: Incarnation;
      readonly name: string;
      readonly host: string;
      readonly pid: number;
      readonly version: string;
      /** Where the exchange and the HTTP pages listen, host:port. */
      readonly address: string;
      readonly httpAddress: string;
      /** What explains its bits: TensorFlow, device, instruction set, threads, precision, execution. */
      readonly labels: Readonly<Record<string, string>>;
      /** Highest view id that it has promised or installed; null before any. */
      readonly promised: ViewId | null;
      /** Present once the worker has loaded everything (a redial). */
      readonly standing: Standing | null;
    }
  /** Loaded: runtime, data and model are ready, fingerprint computed. */
  | {
      readonly kind: "ready";
      readonly fingerprint: readonly string[];
      readonly root: string;
      readonly standing: Standing;
      readonly facts: ModelFacts;
    }
  | { readonly kind: "heartbeat"; readonly progress: Progress }
  /** The word is closed and a running update has ended. */
  | { readonly kind: "answer"; readonly id: ViewId; readonly standing: Standing }
  | { readonly kind: "refuse"; readonly id: ViewId; readonly promised: ViewId }
  /** A planned view took effect after `step` - 1. */
  | { readonly kind: "switched"; readonly id: ViewId; readonly step: number }
  /** Steps that became final, oldest first. */
  | { readonly kind: "final"; readonly entries: readonly LedgerEntry[] }
  /** Trailers of one step differ in lineage or state hash, or a chunk failed its checksum: nobody commits. */
  | {
      readonly kind: "mismatch";
      readonly view: ViewId;
      readonly step: number;
      readonly states: readonly PeerState[];
      readonly corruptFrom: Incarnation | null;
    }
  /** The exchange stream of a peer closed. `refused`: redialling it was refused, so no process listens there. */
  | { readonly kind: "lost"; readonly view: ViewId; readonly peer: Incarnation; readonly refused: boolean }
  /** Reached the end of the run or a stop view: no step is under way. */
  | { readonly kind: "idle"; readonly view: ViewId; readonly standing: Standing }
  | { readonly kind: "restored"; readonly standing: Standing }
  /** A snapshot is held and may be pulled. */
  | { readonly kind: "snapshot"; readonly tip: Tip; readonly bytes: number }
  | { readonly kind: "evaluated"; readonly batch: number }
  /**
   * The weights of this state are kept aside for its validation, or (`bytes` above 0) all of it, which may be pulled like a
   * snapshot; said again on every stream.
   */
  | { readonly kind: "held"; readonly tip: Tip; readonly bytes: number }
  /** Of one batch of held-out images, with the weights of this step. */
  | ({ readonly kind: "validated"; readonly step: number; readonly batch: number } & HeldOutCounts)
  | { readonly kind: "leaving"; readonly reason: string }
  | { readonly kind: "failed"; readonly code: string; readonly message: string }
  /** Whether a worker that is to be let in can be reached from here; an empty failure: it can. */
  | { readonly kind: "dialled"; readonly incarnation: Incarnation; readonly failure: string };

export type CoordinatorMessage =
  | {
      readonly kind: "welcome";
      readonly term: number;
      readonly config: Config;
      readonly fingerprint: readonly string[] | null;
    }
  | { readonly kind: "rejected"; readonly code: string; readonly message: string }
  | {
      readonly kind: "heartbeat";
      readonly term: number /** Ledger entries below this step are durable. */;
      readonly recorded: number;
    }
  | { readonly kind: "prepare"; readonly id: ViewId }
  | { readonly kind: "install"; readonly view: View; readonly base: Tip }
  /** Announces a planned view inside its predecessor. */
  | { readonly kind: "plan"; readonly view: View }
  /** Load the checkpoint of this tip from the coordinator, then answer `restored`. */
  | { readonly kind: "restore"; readonly tip: Tip }
  /** Hold a snapshot of the state after the next commit. */
  | { readonly kind: "snapshot" }
  /** The snapshot of this step is recorded or given up: free it. */
  | { readonly kind: "discard"; readonly step: number }
  | { readonly kind: "evaluate"; readonly batches: readonly number[] }
  /** Predict this batch of held-out images with the weights that were kept of this step. */
  | { readonly kind: "validate"; readonly step: number; readonly batch: number }
  /** The validation of this step is recorded or given up: forget its weights. */
  | { readonly kind: "validationDone"; readonly step: number }
  | { readonly kind: "release"; readonly reason: string }
  | { readonly kind: "inject"; readonly fault: string }
  /** Dial a worker that is not in any view yet, and say whether it is reached. */
  | { readonly kind: "dial"; readonly incarnation: Incarnation; readonly address: string }
  /** Whom not to believe any more, and how to speak to NATS. Again with every change. */
  | {
      readonly kind: "access";
      readonly revoked: readonly string[];
      readonly nats: NatsAccess | null;
      /** What pages beyond loopback ask for. */
      readonly httpToken: string;
    };

/** Credentials of a NATS server that wants some. */
export interface NatsAccess {
  readonly user: string;
  readonly password: string;
  /** PEM of the authority that vouches for the server. */
  readonly authority: string;
}

/** Where a worker stands. */
export interface Standing {
  readonly tip: Tip;
  /** False while its weights are not (yet) a whole state, after a crash inside an update for example. */
  readonly whole: boolean;
  readonly view: ViewId | null;
  /** Final or committed entries that the coordinator has not acknowledged, oldest first. */
  readonly entries: readonly LedgerEntry[];
}

export interface PeerState {
  readonly incarnation: Incarnation;
  readonly level: boolean;
  readonly lineage: string;
  readonly stateHash: string;
}

/** What the coordinator and the report need to know about the model. */
export interface ModelFacts {
  readonly parameters: number;
  /** Bytes of one weight vector and of the whole state. */
  readonly weightBytes: number;
  readonly stateBytes: number;
  /** The vectors that follow each other in the state image: weights, the optimizer's slots, the moving average. */
  readonly sections: readonly { readonly name: string; readonly floats: number }[];
}

export type StepPhase = "loading" | "waiting" | "compute" | "exchange" | "update" | "idle" | "evaluate";

/** A worker's own account of itself, for display, detection and re-balancing. */
export interface Progress {
  readonly view: ViewId | null;
  readonly step: number;
  readonly phase: StepPhase;
  /** Milliseconds since the step began. */
  readonly stepMillis: number;
  readonly level: boolean;
  /** Median time of one shard's micro-batch, in milliseconds; 0 before the first. */
  readonly shardMillis: number;
  /** Steps entries: images computed by this worker since its start. */
  readonly images: number;
  readonly residentBytes: number;
  /** By peer: bytes of this step still owed by it to us, and received from it. */
  readonly peers: readonly { readonly incarnation: Incarnation; readonly owed: number; readonly received: number }[];
}

export type { LedgerEntry, Trailer };
