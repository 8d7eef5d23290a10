import { canonical, canonicalOne, toBf16, toBf16One } from "./number";

// Loops take 16 floats at a time (one cache line), then single floats. Arguments: byte addresses, counts of floats.

// @ts-ignore: decorator
@inline function add4(dst: usize, a: usize, b: usize): void {
  v128.store(dst, canonical(f32x4.add(v128.load(a), v128.load(b))));
}

export function add(dst: usize, a: usize, b: usize, n: i32): void {
  let i = 0;
  for (; i + 16 <= n; i += 16, dst += 64, a += 64, b += 64) {
    add4(dst, a, b);
    add4(dst + 16, a + 16, b + 16);
    add4(dst + 32, a + 32, b + 32);
    add4(dst + 48, a + 48, b + 48);
  }
  for (; i < n; i++, dst += 4, a += 4, b += 4) store<f32>(dst, canonicalOne(load<f32>(a) + load<f32>(b)));
}

// @ts-ignore: decorator
@inline function addBf164(dst: usize, a: usize, b: usize): void {
  v128.store(dst, toBf16(f32x4.add(v128.load(a), v128.load(b))));
}

export function addBf16(dst: usize, a: usize, b: usize, n: i32): void {
  let i = 0;
  for (; i + 16 <= n; i += 16, dst += 64, a += 64, b += 64) {
    addBf164(dst, a, b);
    addBf164(dst + 16, a + 16, b + 16);
    addBf164(dst + 32, a + 32, b + 32);
    addBf164(dst + 48, a + 48, b + 48);
  }
  for (; i < n; i++, dst += 4, a += 4, b += 4) store<f32>(dst, toBf16One(load<f32>(a) + load<f32>(b)));
}

export function scale(dst: usize, src: usize, n: i32, factor: f32): void {
  const factors = f32x4.splat(factor);
  let i = 0;
  for (; i + 4 <= n; i += 4, dst += 16, src += 16) v128.store(dst, canonical(f32x4.mul(v128.load(src), factors)));
  for (; i < n; i++, dst += 4, src += 4) store<f32>(dst, canonicalOne(load<f32>(src) * factor));
}

export function roundBf16(dst: usize, src: usize, n: i32): void {
  let i = 0;
  for (; i + 4 <= n; i += 4, dst += 16, src += 16) v128.store(dst, toBf16(v128.load(src)));
  for (; i < n; i++, dst += 4, src += 4) store<f32>(dst, toBf16One(load<f32>(src)));
}

export function packBf16(dst: usize, src: usize, n: i32): void {
  let i = 0;
  for (; i + 8 <= n; i += 8, dst += 16, src += 32) {
    const low = i32x4.shr_u(toBf16(v128.load(src)), 16);
    const high = i32x4.shr_u(toBf16(v128.load(src + 16)), 16);
    v128.store(dst, i16x8.narrow_i32x4_u(low, high));
  }
  for (; i < n; i++, dst += 2, src += 4) {
    store<u16>(dst, (reinterpret<u32>(toBf16One(load<f32>(src))) >> 16) as u16);
  }
}

export function unpackBf16(dst: usize, src: usize, n: i32): void {
  let i = 0;
  for (; i + 8 <= n; i += 8, dst += 32, src += 16) {
    const packed = v128.load(src);
    v128.store(dst, i32x4.shl(i32x4.extend_low_i16x8_u(packed), 16));
    v128.store(dst + 16, i32x4.shl(i32x4.extend_high_i16x8_u(packed), 16));
  }
  for (; i < n; i++, dst += 4, src += 2) store<u32>(dst, (load<u16>(src) as u32) << 16);
}

export function copy(dst: usize, src: usize, bytes: usize): void {
  memory.copy(dst, src, bytes);
}

export function zero(dst: usize, bytes: usize): void {
  memory.fill(dst, 0, bytes);
}

// One addition, to ask whether the thread keeps denormals: a native library may leave flush-to-zero switched on.
export function plus(a: f32, b: f32): f32 {
  return a + b;
}
