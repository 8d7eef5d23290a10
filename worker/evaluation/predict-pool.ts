import { type ChildProcess, fork } from "node:child_process";
import { type ExitCode, LockstepError } from "../../shared/errors.ts";
import { computeEnvironment } from "../compute/tensorflow.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { PredictedBatch } from "./predictions.ts";

export type PredictorRequest =
  | { readonly kind: "load"; readonly checkpoint: Checkpoint; readonly dataDirectory: string; readonly size: number }
  | { readonly kind: "predict"; readonly batch: number };

export type PredictorReply =
  | { readonly kind: "ready"; readonly classes: number; readonly parameters: number; readonly weightBytes: number }
  | { readonly kind: "predicted"; readonly batch: PredictedBatch }
  | {
      readonly kind: "failed";
      readonly code: `LS_${string}`;
      readonly message: string;
      readonly hint: string | undefined;
      readonly exitCode: ExitCode;
    };

export interface PoolOptions {
  readonly checkpoint: Checkpoint;
  readonly dataDirectory: string;
  /** Test images, and images in one batch: the same cuts give the same bits. */
  readonly images: number;
  readonly size: number;
  /** Processes, and the devices that they take in turn. */
  readonly processes: number;
  readonly devices: readonly string[];
  /** Path of the built predict-main.js. */
  readonly program: string;
  readonly signal: AbortSignal;
  /** Images predicted so far. */
  readonly onProgress?: (done: number) => void;
}

export interface PoolResult {
  readonly batches: readonly PredictedBatch[];
  readonly classes: number;
  readonly parameters: number;
  readonly weightBytes: number;
  /** Images a second from the first process's readiness to the end. */
  readonly imagesPerSecond: number;
}

/** Output of a process that is kept for its error message, in characters. */
const KEPT_OUTPUT = 4000;

/**
 * Predicts the whole test set in several processes of one thread each, as workers do. Each takes the next batch when it has
 * done one; who does which has no influence on the result.
 * @throws LockstepError what a process complained about, LS_EVALUATION_PROCESS where one died, or the signal's reason
 */
export async function predictAll(options: PoolOptions): Promise<PoolResult> {
  const { images, size, processes, devices, signal } = options;
  signal.throwIfAborted();
  const count = Math.ceil(images / size);
  const batches: PredictedBatch[] = [];
  let next = 0;
  let started: number | null = null;
  let facts: Extract<PredictorReply, { kind: "ready" }> | null = null;
  const children: ChildProcess[] = [];
  const work = (index: number) =>
    new Promise<void>((resolve, reject) => {
      const child = start(options, devices[index % devices.length]!);
      children.push(child);
      let output = "";
      child.stderr?.on("data", (text) => {
        output = (output + text).slice(-KEPT_OUTPUT);
      });
      const ask = () => {
        if (next >= count) return resolve();
        child.send({ kind: "predict", batch: next++ } satisfies PredictorRequest);
      };
      child.on("message", (reply: PredictorReply) => {
        if (reply.kind === "failed") {
          const { code, message, hint, exitCode } = reply;
          return reject(new LockstepError(code, message, { exitCode, ...(hint === undefined ? {} : { hint }) }));
        }
        if (reply.kind === "ready") {
          facts = reply;
          started ??= performance.now();
        } else {
          batches.push(reply.batch);
          options.onProgress?.(batches.reduce((sum, { samples }) => sum + samples, 0));
        }
        ask();
      });
      child.once("error", reject);
      child.once("exit", (code, by) => reject(died(code, by, output)));
    });
  const aborted = new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  try {
    const needed = Math.max(1, Math.min(processes, count));
    await Promise.race([Promise.all(Array.from({ length: needed }, (_, index) => work(index))), aborted]);
    const { classes, parameters, weightBytes } = facts!;
    const seconds = (performance.now() - started!) / 1000;
    return { batches, classes, parameters, weightBytes, imagesPerSecond: images / Math.max(seconds, 1e-3) };
  } finally {
    aborted.catch(() => {});
    await Promise.all(children.map(end));
  }
}

function start({ program, checkpoint, dataDirectory, size }: PoolOptions, device: string): ChildProcess {
  const env = { ...process.env, ...computeEnvironment({ device, threads: 1 }) };
  const child = fork(program, [], {
    env,
    serialization: "advanced",
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    execArgv: [],
  });
  child.send({ kind: "load", checkpoint, dataDirectory, size } satisfies PredictorRequest);
  return child;
}

/** It may be inside TensorFlow, where no message reaches it, and holds nothing that must be written. */
function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return Promise.resolve();
  return new Promise((resolve) => {
    child.once("exit", () => resolve());
    child.kill("SIGKILL");
  });
}

function died(code: number | null, by: NodeJS.Signals | null, output: string): LockstepError {
  const last = output.trim().split("\n").at(-1)?.slice(0, 300) ?? "";
  const how = by === null ? `ended with exit code ${code}` : `was ended by ${by}`;
  return new LockstepError(
    "LS_EVALUATION_PROCESS",
    `A process of the evaluation ${how}${last === "" ? "" : `: ${last}`}.`,
    {
      hint: by === "SIGKILL" ? "Memory may be short: try --workers 1." : "See `npx lockstep doctor`.",
    },
  );
}
