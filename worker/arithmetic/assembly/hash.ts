// XXH64 with seed 0 (github.com/Cyan4973/xxHash, doc/xxhash_spec.md).

const P1: u64 = 0x9e3779b185ebca87;
const P2: u64 = 0xc2b2ae3d27d4eb4f;
const P3: u64 = 0x165667b19e3779f9;
const P4: u64 = 0x85ebca77c2b2ae63;
const P5: u64 = 0x27d4eb2f165667c5;

export const BLOCK_BYTES: usize = 4096;

// @ts-ignore: decorator
@inline export function round(lane: u64, input: u64): u64 {
  return rotl(lane + input * P2, 31) * P1;
}

// @ts-ignore: decorator
@inline function merge(hash: u64, lane: u64): u64 {
  return (hash ^ round(0, lane)) * P1 + P4;
}

// What the four lanes begin with.
export const LANE_A: u64 = P1 + P2;
export const LANE_B: u64 = P2;
export const LANE_C: u64 = 0;
export const LANE_D: u64 = 0 - P1;

// @ts-ignore: decorator
@inline function join(a: u64, b: u64, c: u64, d: u64): u64 {
  const hash = rotl(a, 1) + rotl(b, 7) + rotl(c, 12) + rotl(d, 18);
  return merge(merge(merge(merge(hash, a), b), c), d);
}

// @ts-ignore: decorator
@inline function avalanche(sum: u64): u64 {
  let hash = (sum ^ (sum >> 33)) * P2;
  hash = (hash ^ (hash >> 29)) * P3;
  return hash ^ (hash >> 32);
}

// The hash of a whole block from its four lanes.
// @ts-ignore: decorator
@inline export function blockHash(a: u64, b: u64, c: u64, d: u64): u64 {
  return avalanche(join(a, b, c, d) + (BLOCK_BYTES as u64));
}

export function xxh64(address: usize, bytes: usize): u64 {
  let left = bytes;
  let hash: u64;
  if (left >= 32) {
    let a = LANE_A;
    let b = LANE_B;
    let c = LANE_C;
    let d = LANE_D;
    for (; left >= 32; left -= 32, address += 32) {
      a = round(a, load<u64>(address));
      b = round(b, load<u64>(address, 8));
      c = round(c, load<u64>(address, 16));
      d = round(d, load<u64>(address, 24));
    }
    hash = join(a, b, c, d);
  } else {
    hash = P5;
  }
  hash += bytes as u64;
  for (; left >= 8; left -= 8, address += 8) hash = rotl(hash ^ round(0, load<u64>(address)), 27) * P1 + P4;
  if (left >= 4) {
    hash = rotl(hash ^ ((load<u32>(address) as u64) * P1), 23) * P2 + P3;
    left -= 4;
    address += 4;
  }
  for (; left > 0; left--, address++) hash = rotl(hash ^ ((load<u8>(address) as u64) * P5), 11) * P1;
  return avalanche(hash);
}

// The hash of each whole block from `address` on, as little-endian u64 into `table`.
export function blockHashes(address: usize, blocks: i32, table: usize): void {
  for (let i = 0; i < blocks; i++, address += BLOCK_BYTES, table += 8) store<u64>(table, xxh64(address, BLOCK_BYTES));
}
