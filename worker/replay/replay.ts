import type { Config } from "../../shared/config/schema.ts";
import { type ErrorFacts, errorFrom, LockstepError } from "../../shared/errors.ts";
import type { TensorSlot } from "../../shared/model/layout.ts";
import type { ShardRecord } from "../../shared/protocol/trailer.ts";
import type { Tip } from "../../shared/protocol/view.ts";
import { ComputeProcess } from "../compute/compute-process.ts";

/** What of a run is done again. */
export interface ReplayTask {
  readonly config: Config;
  /** Where it starts; null: at the initial state. */
  readonly checkpoint: { readonly file: string; readonly tip: Tip } | null;
  /** The step of interest, which begins on the state after all steps before it. */
  readonly step: number;
  /** The shard whose gradient is wanted; null: the whole step and the state after it. */
  readonly shard: number | null;
  /** Recorded hashes of the states after the steps from the checkpoint on; empty where one is not known. */
  readonly stateHashes: readonly string[];
}

export type TensorPlace = Pick<TensorSlot, "name" | "shape" | "offset" | "size">;

/** Where things lie in the flat vectors of a run. */
export interface FlatLayout {
  /** In model order, trainable ones first, then moving statistics. */
  readonly tensors: readonly TensorPlace[];
  /** Of the state image. */
  readonly sections: readonly { readonly name: string; readonly floats: number }[];
  /** Blocks of a gradient vector. */
  readonly blocks: number;
}

export interface Replayed {
  /** The step at which it started. */
  readonly from: number;
  /** The first step after which the state was not the recorded one; null where all were. */
  readonly departed: number | null;
  /** This machine's, for the run's model. */
  readonly fingerprint: readonly string[];
  readonly layout: FlatLayout;
  /** The state on which the step of interest began. */
  readonly before: Float32Array;
  readonly record: ShardRecord | null;
  readonly gradient: Float32Array | null;
  /** The shard's planned samples, with a hash of the stored image and its label each. */
  readonly images: readonly { readonly id: number; readonly hash: string }[];
  readonly after: Float32Array | null;
  readonly afterHash: string | null;
}

export type ReplayReply =
  | { readonly kind: "progress"; readonly step: number }
  | { readonly kind: "replayed"; readonly replayed: Replayed }
  | ({ readonly kind: "failed" } & ErrorFacts);

export interface ReplayOptions {
  /** Path of the built replay-main.js. */
  readonly program: string;
  /** `cpu`, or the index of a GPU. */
  readonly device: string;
  readonly signal: AbortSignal;
  readonly onProgress: (step: number) => void;
}

/**
 * Does a part of a run again in a process of its own, set up as a worker's.
 * @throws LockstepError what the process complained about, LS_REPLAY where it died, or the signal's reason
 */
export async function replay(task: ReplayTask, options: ReplayOptions): Promise<Replayed> {
  const { program, device, signal, onProgress } = options;
  signal.throwIfAborted();
  const running = new ComputeProcess(program, device);
  const { child } = running;
  const abort = () => void running.end();
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await new Promise<Replayed>((resolve, reject) => {
      child.on("message", (reply: ReplayReply) => {
        if (reply.kind === "progress") onProgress(reply.step);
        else if (reply.kind === "replayed") resolve(reply.replayed);
        else reject(errorFrom(reply));
      });
      child.once("error", reject);
      child.once("exit", (code, by) => {
        const died = new LockstepError("LS_REPLAY", `The replay ${running.ending(code, by)}`);
        reject(signal.aborted ? signal.reason : died);
      });
      child.send(task);
    });
  } finally {
    signal.removeEventListener("abort", abort);
    await running.end();
  }
}
