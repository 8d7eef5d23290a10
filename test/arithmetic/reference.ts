/** The arithmetic in plain JavaScript, element by element, rounded by Math.fround: an oracle that shares no code. */
import fc from "fast-check";

const f = Math.fround;
const word = new DataView(new ArrayBuffer(4));
const bitsOf = (x: number) => {
  word.setFloat32(0, x);
  return word.getUint32(0);
};
const ofBits = (bits: number) => {
  word.setUint32(0, bits);
  return word.getFloat32(0);
};

export const bf16 = (x: number): number => {
  if (Number.isNaN(x)) return x;
  const bits = bitsOf(x);
  const below = bits - (bits % 0x10000);
  const rest = bits % 0x10000;
  const up = rest > 0x8000 || (rest === 0x8000 && (below / 0x10000) % 2 === 1);
  return ofBits(up ? below + 0x10000 : below);
};

export const sum = (a: number, b: number): number => f(a + b);
export const sumBf16 = (a: number, b: number): number => bf16(f(a + b));

export interface SgdState {
  w: number;
  m: number;
}
export function sgd(
  { w, m }: SgdState,
  gradient: number,
  s: { learningRate: number; momentum: number; nesterov: boolean; weightDecay: number; inverseCount: number },
): SgdState {
  const [lr, mu, wd, inv] = [f(s.learningRate), f(s.momentum), f(s.weightDecay), f(s.inverseCount)];
  let g = f(gradient * inv);
  if (wd !== 0) g = f(g + f(wd * w));
  const moment = f(f(mu * m) + g);
  const step = s.nesterov ? f(g + f(mu * moment)) : moment;
  return { w: f(w - f(lr * step)), m: moment };
}

export interface AdamwState {
  w: number;
  m: number;
  v: number;
}
export function adamw(
  { w, m, v }: AdamwState,
  gradient: number,
  s: { learningRate: number; beta1: number; beta2: number; epsilon: number; weightDecay: number; inverseCount: number },
  t: number,
): AdamwState {
  const g = f(gradient * f(s.inverseCount));
  const kept = f(w * f(1 - s.learningRate * s.weightDecay));
  const moment = f(m + f(f(1 - s.beta1) * f(g - m)));
  const second = f(f(f(s.beta2) * v) + f(f(1 - s.beta2) * f(g * g)));
  let [power1, power2] = [1, 1];
  for (let i = 0; i < t; i++) {
    power1 *= s.beta1;
    power2 *= s.beta2;
  }
  const divisor = f(f(f(Math.sqrt(second)) / f(Math.sqrt(1 - power2))) + f(s.epsilon));
  return { w: f(kept - f(f(s.learningRate / (1 - power1)) * f(moment / divisor))), m: moment, v: second };
}

/** The words of a float vector, every NaN as the quiet one. */
export const words = (values: ArrayLike<number>): number[] =>
  Array.from(values, (x) => (Number.isNaN(x) ? 0x7fc00000 : bitsOf(x)));

const special = [
  ...[0, -0, Infinity, -Infinity, NaN, 1, -1, 2 ** -149, -(2 ** -149), 2 ** -126, f(2 ** -126 - 2 ** -149)],
  ...[f(3.4028234663852886e38), f(-3.4028234663852886e38), 2 ** 24, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -9],
];

/** Floats of every kind: any bit pattern, special values, and values of one magnitude that cancel and round. */
export const anyFloat = (): fc.Arbitrary<number> =>
  fc.oneof(
    { weight: 3, arbitrary: fc.double({ min: -4, max: 4, noNaN: true }).map(f) },
    { weight: 2, arbitrary: fc.integer({ min: 0, max: 0xffffffff }).map(ofBits) },
    { weight: 1, arbitrary: fc.constantFrom(...special) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xffffff }).map((bits) => ofBits(bits)) },
  );
