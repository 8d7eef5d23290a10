/**
 * Logarithm and exponential from + - * / alone, which IEEE 754 rounds alike on every machine. Math.log and Math.exp are
 * left to the engine by ECMAScript (section 21.3.2), so their last digit may change with it.
 */
const LN_2_HIGH = 0.6931471803691238; // 32 leading bits of ln 2: k * LN_2_HIGH is exact
const LN_2_LOW = 1.9082149292705877e-10;
const bits = new DataView(new ArrayBuffer(8));

/**
 * Natural logarithm of a positive normal number, within 2 units in the last place. x = 2^k m with m around 1, and
 * ln m = 2 artanh((m - 1) / (m + 1)), summed as a series.
 */
export function ln(x: number): number {
  if (!(x >= 2 ** -1022 && x < Infinity)) throw new RangeError(`ln of ${x}`);
  bits.setFloat64(0, x);
  let exponent = (bits.getUint32(0) >>> 20) - 1023;
  bits.setUint32(0, (bits.getUint32(0) & 0xfffff) | 0x3ff00000);
  let mantissa = bits.getFloat64(0);
  if (mantissa > Math.SQRT2) {
    mantissa /= 2;
    exponent += 1;
  }
  const s = (mantissa - 1) / (mantissa + 1); // at most 0.172
  const s2 = s * s;
  let series = 0;
  for (let n = 23; n >= 3; n -= 2) series = (series + 1 / n) * s2;
  return exponent * LN_2_HIGH + (2 * s + (2 * s * series + exponent * LN_2_LOW));
}

/** Exponential of a number of at most 700 in size, within 2 units in the last place: 2^k times a Taylor series. */
export function exp(x: number): number {
  if (!(Math.abs(x) <= 700)) throw new RangeError(`exp of ${x}`);
  const k = Math.round(x / Math.LN2);
  const r = x - k * LN_2_HIGH - k * LN_2_LOW; // at most 0.347 in size
  let series = 1;
  for (let n = 16; n >= 1; n--) series = 1 + (series * r) / n;
  bits.setUint32(0, (k + 1023) << 20);
  bits.setUint32(4, 0);
  return series * bits.getFloat64(0);
}
