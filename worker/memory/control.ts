import { CommitWord } from "./commit-word.ts";

/**
 * The first page of a worker's memory: the commit word and the counters through which the compute thread tells the
 * main thread where it is. Threads count here, the main thread exports.
 */
export const CONTROL_BYTES = 4096;

const COMMIT_WORD = 0;
const COUNTERS_AT = 64;

/** Each counter has one writing thread. Times are sums in milliseconds. */
const COUNTERS = [
  "step",
  /** Index into PHASES. */
  "phase",
  /** performance.timeOrigin + performance.now() at the beginning of the step. */
  "stepStarted",
  /** Micro-batches and images that went through the model since the start. */
  "microBatches",
  "images",
  /** Median time of one micro-batch over the last ones; 0 before the first. */
  "shardMillis",
  "loadingMillis",
  "computeMillis",
  "exchangeMillis",
  "updateMillis",
  "hashMillis",
  /** Micro-batches prepared ahead, and times that compute waited for one. */
  "loaderReady",
  "loaderStalls",
  /** Operations per micro-batch and time in JavaScript for them. */
  "operations",
  "dispatchMillis",
  "tensors",
  /** Milliseconds that every shard is made to take longer: 0 unless somebody injects a slow worker. Written by the main thread. */
  "shardDelay",
  /** How many times its own duration every shard is made to take longer. Written by the main thread. */
  "shardSlowness",
] as const;

export type CounterName = (typeof COUNTERS)[number];

/** Named float64 cells in shared memory. */
export class Counters {
  readonly #cells: Float64Array;

  constructor(memory: WebAssembly.Memory, address: number) {
    this.#cells = new Float64Array(memory.buffer, address, COUNTERS.length);
  }

  get(name: CounterName): number {
    return this.#cells[COUNTERS.indexOf(name)]!;
  }

  set(name: CounterName, value: number): void {
    this.#cells[COUNTERS.indexOf(name)] = value;
  }

  add(name: CounterName, value: number): void {
    this.#cells[COUNTERS.indexOf(name)]! += value;
  }

  /** All counters, as they are now. */
  read(): Record<CounterName, number> {
    return Object.fromEntries(COUNTERS.map((name) => [name, this.get(name)])) as Record<CounterName, number>;
  }
}

export interface Control {
  readonly commitWord: CommitWord;
  readonly counters: Counters;
}

/** The control page, in any thread of the worker. `address` is plan.control.address. */
export function controlOf(memory: WebAssembly.Memory, address = 0): Control {
  return {
    commitWord: new CommitWord(new BigInt64Array(memory.buffer, address + COMMIT_WORD, 1)),
    counters: new Counters(memory, address + COUNTERS_AT),
  };
}
