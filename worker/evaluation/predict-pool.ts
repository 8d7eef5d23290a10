import type { TrainingPart } from "../../shared/data/training-part.ts";
import { type ErrorFacts, errorFrom, LockstepError } from "../../shared/errors.ts";
import { ComputeProcess } from "../compute/compute-process.ts";
import type { MapMethod } from "../compute/predictor.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { CascadeStep } from "./faithfulness/cascade.ts";
import type { ExaminedImage } from "./faithfulness/examine.ts";
import type { PredictedBatch } from "./predictions.ts";

/** What one process does at a time. */
export type PoolTask =
  | { readonly kind: "predict"; readonly batch: number }
  /** Whether the map of this test image is true. */
  | { readonly kind: "examine"; readonly image: number }
  /** Spoils the process's model: must be the last task. */
  | { readonly kind: "cascade"; readonly images: readonly number[] };

export type PredictorRequest =
  | {
      readonly kind: "load";
      readonly checkpoint: Checkpoint;
      readonly dataDirectory: string;
      readonly part: TrainingPart | null;
      readonly size: number;
    }
  | PoolTask;

export type TaskResult =
  | { readonly kind: "predicted"; readonly batch: PredictedBatch }
  /** null for a model without maps. */
  | { readonly kind: "examined"; readonly image: ExaminedImage | null }
  | { readonly kind: "cascaded"; readonly steps: readonly CascadeStep[] };

export interface LoadedFacts {
  readonly classes: number;
  readonly parameters: number;
  readonly weightBytes: number;
  readonly mapMethod: MapMethod;
}

export type PredictorReply =
  | ({ readonly kind: "ready" } & LoadedFacts)
  | TaskResult
  | ({ readonly kind: "failed" } & ErrorFacts);

export interface PoolOptions {
  readonly checkpoint: Checkpoint;
  readonly dataDirectory: string;
  /** Of a run whose images were held out: those are predicted. */
  readonly part?: TrainingPart | null;
  /** Images in one batch: the same cuts give the same bits. */
  readonly size: number;
  /** Processes, and the devices that they take in turn. */
  readonly processes: number;
  readonly devices: readonly string[];
  /** Path of the built predict-main.js. */
  readonly program: string;
  readonly signal: AbortSignal;
  /** Done so far, in the order in which it is done. */
  readonly onResult?: (result: TaskResult) => void;
}

export interface PoolResult extends LoadedFacts {
  readonly results: readonly TaskResult[];
  /** From the first process's readiness to the last prediction. */
  readonly predictionSeconds: number;
}

/**
 * Does tasks in several processes of one thread each, as workers do. Each takes the next task when it has done one; who does
 * which has no influence on the results.
 * @throws LockstepError what a process complained about, LS_EVALUATION_PROCESS where one died, or the signal's reason
 */
export async function runPool(options: PoolOptions, tasks: readonly PoolTask[]): Promise<PoolResult> {
  const { processes, devices, signal, program, checkpoint, dataDirectory, part = null, size } = options;
  signal.throwIfAborted();
  const results: TaskResult[] = [];
  let next = 0;
  let started: number | null = null;
  let predicted = 0;
  let facts: LoadedFacts | null = null;
  const running: ComputeProcess[] = [];
  const work = (index: number) =>
    new Promise<void>((resolve, reject) => {
      const one = new ComputeProcess(program, devices[index % devices.length]!);
      running.push(one);
      const { child } = one;
      child.send({ kind: "load", checkpoint, dataDirectory, part, size } satisfies PredictorRequest);
      const ask = () => {
        const task = tasks[next++];
        if (task === undefined) return resolve();
        child.send(task satisfies PredictorRequest);
      };
      child.on("message", (reply: PredictorReply) => {
        if (reply.kind === "failed") return reject(errorFrom(reply));
        if (reply.kind === "ready") {
          const { kind: _, ...loaded } = reply;
          facts = loaded;
          started ??= performance.now();
        } else {
          results.push(reply);
          if (reply.kind === "predicted") predicted = performance.now();
          options.onResult?.(reply);
        }
        ask();
      });
      child.once("error", reject);
      child.once("exit", (code, by) => reject(died(one, code, by)));
    });
  const aborted = new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  try {
    const needed = Math.max(1, Math.min(processes, tasks.length));
    await Promise.race([Promise.all(Array.from({ length: needed }, (_, index) => work(index))), aborted]);
    return { ...facts!, results, predictionSeconds: Math.max(1e-3, (predicted - started!) / 1000) };
  } finally {
    aborted.catch(() => {});
    await Promise.all(running.map((one) => one.end()));
  }
}

/** All batches of a test set. */
export const predictTasks = (images: number, size: number): PoolTask[] =>
  Array.from({ length: Math.ceil(images / size) }, (_, batch) => ({ kind: "predict", batch }));

function died(one: ComputeProcess, code: number | null, by: NodeJS.Signals | null): LockstepError {
  return new LockstepError("LS_EVALUATION_PROCESS", `A process of the evaluation ${one.ending(code, by)}`, {
    hint: by === "SIGKILL" ? "Memory may be short: try --workers 1." : "See `npx lockstep doctor`.",
  });
}
