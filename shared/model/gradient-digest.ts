/**
 * Eight bytes for a gradient vector that not only tell two of them apart but also say where they differ, as long as they
 * differ in one block: a weighted checksum, as RAID-6 and Fletcher's sums use it. Over the blocks' hashes h_b (the low 32
 * bits of each block's XXH64, which every gradient has anyway) and modulo the largest prime P below 2^32:
 *
 *     plain = sum of h_b          weighted = sum of (b + 1) * h_b
 *
 * Where one block b differs by d, plain differs by d and weighted by (b + 1) * d: their quotient names the block, and the
 * damaged block's own hash is known as well. Two vectors that differ in one block have equal digests with probability 2^-32.
 */
const P = 4294967291;
const WIDE_P = BigInt(P);

/**
 * Digest of a vector, 16 hex digits: plain, then weighted.
 * @param table block hashes as little-endian u64, two words each
 */
export function gradientDigest(table: Uint32Array): string {
  let plain = 0;
  let weighted = 0;
  for (let block = 0; 2 * block < table.length; block++) {
    const hash = table[2 * block]! % P;
    plain = (plain + hash) % P;
    // Below 2^53 for up to a million blocks, 4 GiB: exact.
    weighted = (weighted + (block + 1) * hash) % P;
  }
  return hex(plain) + hex(weighted);
}

/** What the digests of two vectors say about where these differ. */
export interface Damage {
  readonly block: number;
  /** By how much the block's hash differs, modulo P. */
  readonly shift: number;
}

/**
 * The one block in which two vectors of `blocks` blocks differ; null where they are equal or differ in several.
 * @throws RangeError where a digest has another form
 */
export function locateDamage(sound: string, damaged: string, blocks: number): Damage | null {
  const [a, b] = [wordsOf(sound), wordsOf(damaged)];
  const shift = (b.plain - a.plain + P) % P;
  const moment = (b.weighted - a.weighted + P) % P;
  if (shift === 0) return null;
  const position = Number((BigInt(moment) * inverse(BigInt(shift))) % WIDE_P);
  return position >= 1 && position <= blocks ? { block: position - 1, shift } : null;
}

/** Is `candidate`, the low word of a block's XXH64, what the sound block's low word became by the damage? */
export const explains = ({ shift }: Damage, sound: number, candidate: number): boolean =>
  candidate % P === ((sound % P) + shift) % P;

function wordsOf(digest: string) {
  if (!/^[0-9a-f]{16}$/.test(digest)) throw new RangeError(`not a digest: ${JSON.stringify(digest)}`);
  return { plain: Number.parseInt(digest.slice(0, 8), 16), weighted: Number.parseInt(digest.slice(8), 16) };
}

/** a^(P - 2), the inverse of a modulo P. */
function inverse(a: bigint): bigint {
  let result = 1n;
  let power = a;
  for (let exponent = WIDE_P - 2n; exponent > 0n; exponent >>= 1n) {
    if (exponent & 1n) result = (result * power) % WIDE_P;
    power = (power * power) % WIDE_P;
  }
  return result;
}

const hex = (word: number) => word.toString(16).padStart(8, "0");
