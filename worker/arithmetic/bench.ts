import { BLOCK } from "../../shared/model/layout.ts";
import { type Arithmetic, loadArithmeticSync } from "./arithmetic.ts";

/**
 * Prints GB/s of each pass over vectors of 44.7 MB (11.2 M floats) beside a plain memory copy: bytes read plus bytes
 * written, median of nine runs after the engine has optimised the pass. `node dist/worker/arithmetic/bench.js [MB]`
 */
const MEGABYTES = Number(process.argv[2] ?? 44.7);
const RUNS = 9;
/** Passes before the first timed one: the engine optimises in the background. */
const WARM_UP = 20;

const floats = Math.ceil((MEGABYTES * 1e6) / 4 / BLOCK) * BLOCK;
const bytes = floats * 4;
const pages = Math.ceil((5 * bytes + floats / 100) / 65536) + 1;
const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
const arithmetic = loadArithmeticSync(memory);
const [a, b, c, d, table] = [0, bytes, 2 * bytes, 3 * bytes, 4 * bytes] as const;
const values = new Float32Array(memory.buffer);
for (let i = 0; i < floats * 4; i++) values[i] = (((i * 2654435761) >>> 0) / 2 ** 32) * 0.1 + 1e-3;

const sgd = { learningRate: 1e-4, momentum: 0.9, nesterov: true, weightDecay: 5e-4, inverseCount: 1 / 128 };
const adamw = { learningRate: 1e-4, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.05, inverseCount: 1 / 128 };
const corrections = { biasCorrection1: 0.1, biasCorrection2: 0.001 };

/** Name, vectors read plus vectors written, the pass itself. */
const passes: readonly (readonly [string, number, (arithmetic: Arithmetic) => void])[] = [
  ["copy", 2, (x) => x.copy(a, b, bytes)],
  ["zero", 1, (x) => x.zero(a, bytes)],
  ["add", 3, (x) => x.add(c, a, b, floats)],
  ["add in place", 3, (x) => x.add(a, a, b, floats)],
  ["addBf16", 3, (x) => x.addBf16(c, a, b, floats)],
  ["packBf16", 1.5, (x) => x.packBf16(c, b, floats)],
  ["unpackBf16", 1.5, (x) => x.unpackBf16(a, c, floats)],
  ["sgd nesterov decay", 5, (x) => x.sgd(d, c, b, floats, sgd)],
  ["adamw", 7, (x) => x.adamw(d, c, b, a, floats, { ...adamw, ...corrections })],
  ["ema", 3, (x) => x.ema(c, b, floats, 0.998)],
  ["blockHashes", 1, (x) => x.blockHashes(a, floats, table)],
  ["sumOfSquares", 1, (x) => void x.sumOfSquares(a, floats)],
  ["allFinite", 1, (x) => void x.allFinite(a, floats)],
];

for (const [name, vectors, pass] of passes) {
  const times = Array.from({ length: WARM_UP + RUNS }, () => {
    const start = process.hrtime.bigint();
    pass(arithmetic);
    return Number(process.hrtime.bigint() - start) / 1e9;
  });
  const seconds = times.slice(WARM_UP).sort((x, y) => x - y)[Math.floor(RUNS / 2)]!;
  const rate = (vectors * bytes) / seconds / 1e9;
  console.log(`${name.padEnd(20)} ${(seconds * 1e3).toFixed(2).padStart(8)} ms ${rate.toFixed(1).padStart(7)} GB/s`);
}
