import { createReadStream } from "node:fs";
import { availableParallelism, freemem, totalmem } from "node:os";
import { join } from "node:path";
import { type Dataset, trainingSha256 } from "../data/dataset.ts";
import type { ImageShape, Split } from "../data/split.ts";
import { multipliesBfloat16 } from "../process/instruction-set.ts";
import type { ConfigFile } from "./files.ts";

/** What a config needs to know about the data. */
export interface DatasetFacts extends ImageShape {
  readonly directory: string;
  /** SHA-256 of the training files. */
  readonly sha256: string;
  readonly trainImages: number;
  readonly testImages: number;
  readonly classes: number;
  /** Per channel, of the pixels that are trained on, in 0..1. */
  readonly mean: readonly number[];
  readonly deviation: readonly number[];
}

/** What a config needs to know about this machine. */
export interface MachineFacts {
  /** Cores that this process may use. */
  readonly cores: number;
  /** Bytes of memory that workers may fill together. */
  readonly memoryBytes: number;
  /** What the runtime supports, the preferred one first. */
  readonly precisions: readonly ("float32" | "bf16")[];
  readonly executions: readonly ("eager" | "graph")[];
}

/** What identifies a run, and its surroundings. */
export interface RunFacts {
  readonly runId: string;
  readonly outDirectory: string;
  /** URL of the NATS server; null without one. */
  readonly nats: string | null;
  /** What --config named; null without it. */
  readonly file: ConfigFile | null;
}

/** Reads the training files once or twice: hash and pixel statistics. */
export async function datasetFacts(dataset: Dataset): Promise<DatasetFacts> {
  const { directory, shape, train, test, classNames } = dataset;
  const statistics = await channelStatistics(join(directory, "train_X.bin"), train);
  return {
    directory,
    sha256: await trainingSha256(directory),
    trainImages: train.count,
    testImages: test.count,
    classes: classNames.length,
    ...shape,
    ...statistics,
  };
}

/**
 * Mean and deviation of each channel's pixels in 0..1, to four decimals: exact sums over a histogram of bytes. What is held
 * out, or in other folds, does not count.
 */
async function channelStatistics(file: string, train: Split) {
  const { channels, height, width } = train.shape;
  const plane = height * width;
  const trained = new Set(Array.from({ length: train.count }, (_, id) => train.placeOf(id)));
  const histogram = Array.from({ length: channels }, () => new Float64Array(256));
  let position = 0;
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
    for (let from = 0; from < chunk.length; ) {
      const counts = histogram[Math.floor(position / plane) % channels]!;
      const to = Math.min(chunk.length, from + plane - (position % plane));
      const isTrained = trained.has(Math.floor(position / (plane * channels)));
      for (let i = from; isTrained && i < to; i++) counts[chunk[i]!]!++;
      position += to - from;
      from = to;
    }
  }
  const rounded = (x: number) => Math.round(x * 1e4) / 1e4;
  const moments = histogram.map((counts) => {
    let [pixels, sum, squares] = [0, 0, 0];
    counts.forEach((count, byte) => {
      pixels += count;
      sum += count * byte;
      squares += count * byte * byte;
    });
    const mean = sum / pixels;
    return { mean: rounded(mean / 255), deviation: rounded(Math.sqrt(squares / pixels - mean * mean) / 255) };
  });
  return {
    mean: moments.map(({ mean }) => mean),
    // A channel of one value has no deviation to divide by.
    deviation: moments.map(({ deviation }) => deviation || 1),
  };
}

/** This machine, as far as containers and CPU affinity let this process use it. */
export function machineFacts(): MachineFacts {
  const limit = process.constrainedMemory();
  return {
    cores: availableParallelism(),
    // Unlimited containers report 0 or a number beyond all memory; page cache counts as free, since it gives way.
    memoryBytes: Math.min(limit > 0 ? limit : totalmem(), freemem()),
    // Emulated bfloat16 is slower than float32, and has other bits than the instructions.
    precisions: multipliesBfloat16() ? ["bf16", "float32"] : ["float32"],
    executions: ["graph", "eager"],
  };
}
