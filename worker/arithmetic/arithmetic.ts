import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { LockstepError } from "../../shared/errors.ts";
import { BLOCK } from "../../shared/model/layout.ts";

/**
 * The one arithmetic of a run: a WebAssembly SIMD module of our own (assembly/), instantiated in every thread over the
 * worker's shared memory. Addresses are byte addresses in that memory, multiples of 4; counts are floats unless they
 * say bytes. Every operation rounds to float32 once (IEEE 754, nearest even, denormals kept); a NaN result of a sum or
 * an update is always 0x7fc00000. `dst` may be the same vector as an operand, but must not overlap one partly.
 */
export interface Arithmetic {
  readonly memory: WebAssembly.Memory;
  /** dst = a + b. */
  add(dst: number, a: number, b: number, n: number): void;
  /** dst = bf16(a + b): the sum rounded to float32, then to bfloat16 (nearest even), stored as float32. */
  addBf16(dst: number, a: number, b: number, n: number): void;
  /** dst = src * factor. */
  scaleRange(dst: number, src: number, n: number, factor: number): void;
  /** dst = bf16(src), stored as float32. */
  roundBf16(dst: number, src: number, n: number): void;
  /** Writes n bfloat16 numbers (2 bytes each) at dst from n floats at src, rounding where necessary. */
  packBf16(dst: number, src: number, n: number): void;
  /** Writes n floats at dst from n bfloat16 numbers at src. The ranges must not overlap. */
  unpackBf16(dst: number, src: number, n: number): void;
  copy(dst: number, src: number, bytes: number): void;
  zero(dst: number, bytes: number): void;

  /** XXH64, seed 0, of any bytes. */
  xxh64(address: number, bytes: number): bigint;
  /** XXH64 of each block of BLOCK floats, as little-endian u64 at `table`. `floats` is a multiple of BLOCK. */
  blockHashes(address: number, floats: number, table: number): void;
  /** XXH64 over the first `entries` of a table of block hashes: the hash of a whole vector. */
  hashTable(table: number, entries: number): bigint;

  /**
   * SGD in PyTorch's form, in place (torch.optim.SGD, dampening 0). In this order, each operation rounded:
   *
   *     g = gradient * inverseCount;  g = g + weightDecay * w  (left out when weightDecay is 0)
   *     m = momentum * m + g
   *     w = w - learningRate * (nesterov ? g + momentum * m : m)
   */
  sgd(weights: number, momentum: number, gradient: number, n: number, settings: SgdSettings): void;
  /**
   * AdamW in PyTorch's form, in place (torch.optim.AdamW; Loshchilov and Hutter 2019). The scalars in brackets are
   * computed in float64 and rounded once:
   *
   *     g = gradient * inverseCount;  w = w * [1 - learningRate * weightDecay]
   *     m = m + [1 - beta1] * (g - m);  v = beta2 * v + [1 - beta2] * (g * g)
   *     w = w - [learningRate / biasCorrection1] * (m / (sqrt(v) / [sqrt(biasCorrection2)] + epsilon))
   */
  adamw(weights: number, m: number, v: number, gradient: number, n: number, settings: AdamwSettings): void;
  /** ema = ema + [1 - decay] * (weights - ema). */
  ema(ema: number, weights: number, n: number, decay: number): void;
  /** state = momentum * state + [1 - momentum] * (sums * inverseCount); sums hold n*mean or n*variance. */
  movingStatistics(state: number, sums: number, n: number, momentum: number, inverseCount: number): void;

  /** Sum of squares in float64, in one fixed order; finite exactly when all n floats are. */
  sumOfSquares(address: number, n: number): number;
  allFinite(address: number, n: number): boolean;
  /** blockHashes and sumOfSquares of the same floats, with one pass over memory. `floats` is a multiple of BLOCK. */
  hashedSquares(address: number, floats: number, table: number): number;
  /**
   * Whether this thread computes denormals. A native library may leave flush-to-zero switched on in the thread that
   * called it; bits then differ from every other worker's, and the worker must refuse to start.
   */
  keepsDenormals(): boolean;
}

export interface SgdSettings {
  readonly learningRate: number;
  readonly momentum: number;
  readonly nesterov: boolean;
  readonly weightDecay: number;
  /** 1 / planned global count. */
  readonly inverseCount: number;
}

export interface AdamwSettings {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
  readonly inverseCount: number;
  /** 1 - beta1^t and 1 - beta2^t for the t-th update, counted from 1: see biasCorrection. */
  readonly biasCorrection1: number;
  readonly biasCorrection2: number;
}

type Call<Result> = (...operands: readonly number[]) => Result;

/** What the module exports; u64 crosses as a signed bigint, bool as 0 or 1. */
interface Exports {
  readonly add: Call<void>;
  readonly addBf16: Call<void>;
  readonly scale: Call<void>;
  readonly roundBf16: Call<void>;
  readonly packBf16: Call<void>;
  readonly unpackBf16: Call<void>;
  readonly copy: Call<void>;
  readonly zero: Call<void>;
  readonly plus: Call<number>;
  readonly xxh64: Call<bigint>;
  readonly blockHashes: Call<void>;
  readonly sgd: Call<void>;
  readonly adamw: Call<void>;
  readonly ema: Call<void>;
  readonly movingStatistics: Call<void>;
  readonly sumOfSquares: Call<number>;
  readonly allFinite: Call<number>;
  readonly hashedSquares: Call<number>;
}

/** The built module lies beside the built code; code that runs from its sources finds it under dist/. */
const places = ["./arithmetic.wasm", "../../dist/worker/arithmetic/arithmetic.wasm"];

function builtModule(): string {
  const paths = places.map((place) => fileURLToPath(new URL(place, import.meta.url)));
  return paths.find((path) => existsSync(path)) ?? paths[0]!;
}

function compile(path: string): WebAssembly.Module {
  if (!existsSync(path)) {
    throw new LockstepError("LS_ARITHMETIC_MISSING", `The arithmetic module ${path} is not built.`, {
      hint: "Build it with `npm run build`.",
      exitCode: 3,
    });
  }
  return new WebAssembly.Module(readFileSync(path));
}

/**
 * Instantiates the module over a shared memory of a worker, at once: for the start of a thread, where waiting costs
 * nothing.
 * @throws LockstepError LS_ARITHMETIC_MISSING where the module is not built.
 */
export function loadArithmeticSync(memory: WebAssembly.Memory, wasmPath = builtModule()): Arithmetic {
  return wrap(memory, new WebAssembly.Instance(compile(wasmPath), { env: { memory } }).exports as unknown as Exports);
}

/** As loadArithmeticSync, for callers that wait for other things too. */
export async function loadArithmetic(memory: WebAssembly.Memory, wasmPath = builtModule()): Promise<Arithmetic> {
  const instance = await WebAssembly.instantiate(compile(wasmPath), { env: { memory } });
  return wrap(memory, instance.exports as unknown as Exports);
}

const SMALLEST_DENORMAL = 2 ** -149;

function blocksIn(floats: number): number {
  if (floats % BLOCK !== 0) throw new RangeError(`${floats} floats are not whole blocks of ${BLOCK}`);
  return floats / BLOCK;
}

function wrap(memory: WebAssembly.Memory, wasm: Exports): Arithmetic {
  return {
    memory,
    add: wasm.add,
    addBf16: wasm.addBf16,
    scaleRange: wasm.scale,
    roundBf16: wasm.roundBf16,
    packBf16: wasm.packBf16,
    unpackBf16: wasm.unpackBf16,
    copy: wasm.copy,
    zero: wasm.zero,
    xxh64: (address, bytes) => BigInt.asUintN(64, wasm.xxh64(address, bytes)),
    blockHashes: (address, floats, table) => wasm.blockHashes(address, blocksIn(floats), table),
    hashTable: (table, entries) => BigInt.asUintN(64, wasm.xxh64(table, entries * 8)),
    sgd(weights, momentum, gradient, n, s) {
      const nesterov = s.nesterov ? 1 : 0;
      wasm.sgd(weights, momentum, gradient, n, s.learningRate, s.momentum, nesterov, s.weightDecay, s.inverseCount);
    },
    adamw(weights, m, v, gradient, n, s) {
      const keep = 1 - s.learningRate * s.weightDecay;
      const stepSize = s.learningRate / s.biasCorrection1;
      const root = Math.sqrt(s.biasCorrection2);
      const moments = [keep, s.beta2, 1 - s.beta1, 1 - s.beta2] as const;
      wasm.adamw(weights, m, v, gradient, n, ...moments, stepSize, root, s.epsilon, s.inverseCount);
    },
    ema: (ema, weights, n, decay) => wasm.ema(ema, weights, n, 1 - decay),
    movingStatistics: (state, sums, n, momentum, inverse) =>
      wasm.movingStatistics(state, sums, n, momentum, 1 - momentum, inverse),
    sumOfSquares: wasm.sumOfSquares,
    allFinite: (address, n) => wasm.allFinite(address, n) !== 0,
    hashedSquares: (address, floats, table) => wasm.hashedSquares(address, blocksIn(floats), table),
    keepsDenormals: () => wasm.plus(SMALLEST_DENORMAL, SMALLEST_DENORMAL) === 2 * SMALLEST_DENORMAL,
  };
}

/** A 64-bit hash as trailers and records carry it: 16 hex digits. */
export const hex64 = (hash: bigint): string => hash.toString(16).padStart(16, "0");
