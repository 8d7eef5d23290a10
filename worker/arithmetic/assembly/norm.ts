import { BLOCK_BYTES, blockHash, LANE_A, LANE_B, LANE_C, LANE_D, round } from "./hash";

// Sum of squares in float64 in one fixed order: element i of the whole groups of eight goes to lane i mod 8, in
// ascending order; then ((l0 + l2) + (l4 + l6)) + ((l1 + l3) + (l5 + l7)); then the rest, one by one. Squares of
// float32 are exact in float64 and cannot overflow there, so the sum is finite exactly when all elements are.
export function sumOfSquares(address: usize, n: i32): f64 {
  let a = f64x2.splat(0);
  let b = f64x2.splat(0);
  let c = f64x2.splat(0);
  let d = f64x2.splat(0);
  let i = 0;
  for (; i + 8 <= n; i += 8, address += 32) {
    const low = v128.load(address);
    const high = v128.load(address, 16);
    const e = f64x2.promote_low_f32x4(low);
    const f = f64x2.promote_low_f32x4(v128.shuffle<i64>(low, low, 1, 0));
    const g = f64x2.promote_low_f32x4(high);
    const h = f64x2.promote_low_f32x4(v128.shuffle<i64>(high, high, 1, 0));
    a = f64x2.add(a, f64x2.mul(e, e));
    b = f64x2.add(b, f64x2.mul(f, f));
    c = f64x2.add(c, f64x2.mul(g, g));
    d = f64x2.add(d, f64x2.mul(h, h));
  }
  const lanes = f64x2.add(f64x2.add(a, b), f64x2.add(c, d));
  let sum = f64x2.extract_lane(lanes, 0) + f64x2.extract_lane(lanes, 1);
  for (; i < n; i++, address += 4) {
    const x = load<f32>(address) as f64;
    sum = sum + x * x;
  }
  return sum;
}

// blockHashes and sumOfSquares of the same whole blocks in one pass: the hash keeps the multiplier of integers busy, the
// sum the vector units.
export function hashedSquares(address: usize, blocks: i32, table: usize): f64 {
  let a = f64x2.splat(0);
  let b = f64x2.splat(0);
  let c = f64x2.splat(0);
  let d = f64x2.splat(0);
  for (let block = 0; block < blocks; block++, table += 8) {
    let s = LANE_A;
    let t = LANE_B;
    let u = LANE_C;
    let v = LANE_D;
    for (const end = address + BLOCK_BYTES; address < end; address += 32) {
      s = round(s, load<u64>(address));
      t = round(t, load<u64>(address, 8));
      u = round(u, load<u64>(address, 16));
      v = round(v, load<u64>(address, 24));
      const low = v128.load(address);
      const high = v128.load(address, 16);
      const e = f64x2.promote_low_f32x4(low);
      const f = f64x2.promote_low_f32x4(v128.shuffle<i64>(low, low, 1, 0));
      const g = f64x2.promote_low_f32x4(high);
      const h = f64x2.promote_low_f32x4(v128.shuffle<i64>(high, high, 1, 0));
      a = f64x2.add(a, f64x2.mul(e, e));
      b = f64x2.add(b, f64x2.mul(f, f));
      c = f64x2.add(c, f64x2.mul(g, g));
      d = f64x2.add(d, f64x2.mul(h, h));
    }
    store<u64>(table, blockHash(s, t, u, v));
  }
  const lanes = f64x2.add(f64x2.add(a, b), f64x2.add(c, d));
  return f64x2.extract_lane(lanes, 0) + f64x2.extract_lane(lanes, 1);
}

// An all-ones exponent marks infinities and NaN.
export function allFinite(address: usize, n: i32): bool {
  const exponent = i32x4.splat(0x7f800000);
  let special = i32x4.splat(0);
  let i = 0;
  for (; i + 4 <= n; i += 4, address += 16) {
    special = v128.or(special, i32x4.eq(v128.and(v128.load(address), exponent), exponent));
  }
  if (v128.any_true(special)) return false;
  for (; i < n; i++, address += 4) {
    if ((load<u32>(address) & 0x7f800000) == 0x7f800000) return false;
  }
  return true;
}
