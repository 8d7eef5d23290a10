import xxhash from "xxhash-wasm";
import { type Damage, explains, locateDamage } from "../../shared/model/gradient-digest.ts";
import { BLOCK } from "../../shared/model/layout.ts";
import type { FlatLayout } from "../../worker/replay/replay.ts";
import { placeOf, tensorsInBlock } from "./tensors.ts";

/** Where a recorded gradient differs from the one that the same inputs give. */
export interface Located {
  /** Tensors with values in the one block that differs. */
  readonly tensors: readonly string[];
  /** The one flipped bit that explains the recorded digest, where there is one. */
  readonly flip: Flip | null;
}

export interface Flip {
  readonly tensor: string;
  /** Indices in the tensor. */
  readonly index: readonly number[];
  /** 0 to 31, from the least significant one. */
  readonly bit: number;
  readonly value: number;
  readonly became: number;
}

/**
 * Reads from the digest of a damaged gradient what was damaged, given the sound gradient; null where more than one block
 * differs.
 * @param sound digest of `gradient`
 */
export async function locate(
  gradient: Float32Array,
  sound: string,
  recorded: string,
  layout: FlatLayout,
): Promise<Located | null> {
  const damage = locateDamage(sound, recorded, layout.blocks);
  if (damage === null) return null;
  const from = damage.block * BLOCK;
  const block = gradient.slice(from, from + BLOCK);
  const found = await flippedBit(new Uint32Array(block.buffer), damage);
  const place = found === null ? null : placeOf(from + found.float, layout);
  const tensors = tensorsInBlock(damage.block, layout);
  if (found === null || place === null) return { tensors, flip: null };
  const value = block[found.float]!;
  new Uint32Array(block.buffer)[found.float]! ^= 1 << found.bit;
  const flip = { tensor: place.name, index: place.index, bit: found.bit, value, became: block[found.float]! };
  return { tensors: [place.name], flip };
}

/** Tries all bits of a block: 32,768 hashes of 4 KiB, some tens of milliseconds. */
async function flippedBit(words: Uint32Array, damage: Damage): Promise<{ float: number; bit: number } | null> {
  const { h64Raw } = await xxhash();
  const bytes = new Uint8Array(words.buffer);
  const hash = () => Number(BigInt.asUintN(32, h64Raw(bytes)));
  const sound = hash();
  for (let float = 0; float < words.length; float++) {
    for (let bit = 0; bit < 32; bit++) {
      words[float]! ^= 1 << bit;
      const found = explains(damage, sound, hash());
      words[float]! ^= 1 << bit;
      if (found) return { float, bit };
    }
  }
  return null;
}
