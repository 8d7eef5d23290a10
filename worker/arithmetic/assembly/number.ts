// WebAssembly leaves the sign and payload of a NaN open where an operation makes or passes one on, and engines differ.
// Results therefore carry the one quiet NaN 0x7fc00000.

// @ts-ignore: decorator
@inline export function canonical(x: v128): v128 {
  return v128.bitselect(x, i32x4.splat(0x7fc00000), f32x4.eq(x, x));
}

// @ts-ignore: decorator
@inline export function canonicalOne(x: f32): f32 {
  return x == x ? x : reinterpret<f32>(0x7fc00000);
}

// bfloat16 keeps the upper half of a float32. Adding 0x7fff plus the lowest kept bit rounds to nearest, ties to even;
// the carry runs into the exponent where it should, and infinity stays because its lower half is zero.

// @ts-ignore: decorator
@inline export function toBf16(x: v128): v128 {
  const odd = v128.and(i32x4.shr_u(x, 16), i32x4.splat(1));
  const rounded = v128.and(i32x4.add(i32x4.add(x, i32x4.splat(0x7fff)), odd), i32x4.splat(0xffff0000));
  return v128.bitselect(rounded, i32x4.splat(0x7fc00000), f32x4.eq(x, x));
}

// @ts-ignore: decorator
@inline export function toBf16One(x: f32): f32 {
  const bits = reinterpret<u32>(x);
  return x == x ? reinterpret<f32>((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000) : reinterpret<f32>(0x7fc00000);
}
