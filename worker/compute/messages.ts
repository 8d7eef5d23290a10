import type { Config } from "../../shared/config/schema.ts";
import type { Fault } from "../../shared/faults/fault.ts";
import type { Layout } from "../../shared/model/layout.ts";
import type { ShardRange } from "../../shared/plan/tree.ts";
import type { HeldOutCounts, ModelFacts } from "../../shared/protocol/messages.ts";
import type { ShardRecord } from "../../shared/protocol/trailer.ts";
import type { Tip } from "../../shared/protocol/view.ts";
import type { Span } from "../../shared/trace/part.ts";
import type { MemoryPlan } from "../memory/plan.ts";
import type { StartMillis } from "./start-clock.ts";
import type { NodeBuffer } from "./step.ts";

/** What the main thread asks of the compute thread; it answers in the order of the requests. */
export type ComputeRequest =
  | { readonly kind: "compute"; readonly viewTag: number; readonly step: number; readonly shards: ShardRange }
  | {
      readonly kind: "commit";
      readonly viewTag: number;
      readonly step: number;
      readonly parent: string;
      /** Digests of the ids of all shards, in shard order. */
      readonly idsDigests: readonly string[];
      /** Samples of the whole step. */
      readonly samples: number;
    }
  /** Makes the initial state again. */
  | { readonly kind: "initial" }
  /** The state came from elsewhere (a pull, a checkpoint): what is kept beside it must follow. */
  | { readonly kind: "replaced" }
  /** Copies the state into the snapshot region. */
  | { readonly kind: "snapshot"; readonly tip: Tip }
  | { readonly kind: "evaluate"; readonly batch: number }
  /** Keeps a copy of the state of this step, or of the weights that would be exported of it; answers `held`. */
  | { readonly kind: "hold"; readonly step: number; readonly stateHash: string }
  /** Predicts a batch of held-out images with the weights that were kept of this step. */
  | { readonly kind: "validate"; readonly step: number; readonly batch: number }
  | { readonly kind: "inject"; readonly fault: Fault }
  /** Is the thread there? It answers `pong` when everything before is done. */
  | { readonly kind: "ping" }
  | { readonly kind: "stop" };

export type ComputeReply =
  | {
      readonly kind: "ready";
      readonly memory: WebAssembly.Memory;
      readonly plan: MemoryPlan;
      readonly layout: Layout;
      readonly fingerprint: readonly string[];
      readonly root: Tip;
      readonly startMillis: StartMillis;
      readonly labels: Readonly<Record<string, string>>;
      readonly facts: ModelFacts;
    }
  /** The gradients are computed and summed: they may leave. `computed` follows when the state is hashed. */
  | { readonly kind: "summed"; readonly viewTag: number; readonly step: number; readonly nodes: readonly NodeBuffer[] }
  | {
      readonly kind: "computed";
      readonly viewTag: number;
      readonly step: number;
      readonly nodes: readonly NodeBuffer[];
      readonly shards: readonly ShardRecord[];
      readonly stateHash: string;
    }
  | {
      readonly kind: "updated";
      readonly viewTag: number;
      readonly step: number;
      readonly lineage: string;
      readonly stateHash: string;
      readonly loss: number;
      readonly gradientNorm: number;
      readonly applied: boolean;
    }
  /** The word was closed before the commit, or the reduced vector is not what was summed: nothing happened. */
  | { readonly kind: "notCommitted"; readonly viewTag: number; readonly step: number; readonly corrupt: boolean }
  | { readonly kind: "initial"; readonly tip: Tip }
  | { readonly kind: "snapshot"; readonly tip: Tip }
  | { readonly kind: "evaluated"; readonly batch: number; readonly result: EvaluatedBatch }
  /** Not `sound`: the state had another hash by then. */
  | { readonly kind: "held"; readonly step: number; readonly sound: boolean }
  | ({ readonly kind: "validated"; readonly step: number; readonly batch: number } & HeldOutCounts)
  | { readonly kind: "pong" }
  /** What a trace shows of the request whose answer follows. */
  | { readonly kind: "spans"; readonly spans: readonly Span[] }
  /** An injected fault that only the main thread can do: at once. */
  | { readonly kind: "strike"; readonly fault: Fault }
  /** `stack` is for the log. */
  | { readonly kind: "failed"; readonly code: string; readonly message: string; readonly stack: string };

/** Predictions for the test images [from, from + samples). */
export interface EvaluatedBatch {
  readonly from: number;
  readonly samples: number;
  readonly classes: number;
  /** float32 [samples, classes] */
  readonly logits: Float32Array;
  /** float32 [samples, classes] without flip averaging; empty where the run does not average. */
  readonly plainLogits: Float32Array;
  readonly mapHeight: number;
  readonly mapWidth: number;
  /** float32 [samples, 2, mapHeight, mapWidth]: maps of the predicted and of the true class; empty where the model has no maps. */
  readonly maps: Float32Array;
}

export interface ComputeData {
  readonly config: Config;
}
