import type { Recipe } from "../../shared/config/schema.ts";
import type { ImageShape } from "../../shared/data/dataset.ts";
import type { Layout } from "../../shared/model/layout.ts";
import { DOMAIN, Stream } from "../../shared/plan/random.ts";
import { type Arithmetic, hex64 } from "../arithmetic/arithmetic.ts";
import { Augmenter } from "../loader/augment.ts";
import { Mixer } from "../loader/mix.ts";
import { slotLayout } from "../loader/slot.ts";
import type { HashedVector } from "../memory/plan.ts";
import type { ShardGradient } from "./shard-gradient.ts";

/**
 * Hashes of the gradients of fixed micro-batches, from raw generated images through augmentation and the model on the
 * weights that stand in the state now (the initial ones), one for every shape in the plan, 16 hex digits each. Workers
 * of equal fingerprint produce the same bits; the run refuses others. Scales that start at zero count as one meanwhile:
 * behind them every gradient would be zero and hide what differs.
 */
export function fingerprint(parts: {
  readonly arithmetic: Arithmetic;
  readonly gradient: ShardGradient;
  readonly layout: Layout;
  readonly recipe: Recipe;
  readonly shape: ImageShape;
  /** Sizes of micro-batches in the plan. */
  readonly sizes: readonly number[];
  /** A loader slot and a gradient buffer that nobody uses yet. */
  readonly slot: number;
  readonly buffer: HashedVector;
}): string[] {
  const { arithmetic, gradient, layout, recipe, shape, sizes, slot, buffer } = parts;
  const { memory } = arithmetic;
  const at = slotLayout(recipe);
  const augmenter = new Augmenter(recipe.augmentation, shape, recipe.seed);
  const sides = [...new Set(recipe.resolutions.map((resolution) => resolution.side))];
  const raw = new Uint8Array(shape.channels * shape.height * shape.width);
  const mixer = recipe.mixing === undefined ? null : new Mixer(recipe.mixing, shape.channels, recipe.seed);
  const lull = wakeScales(gradient.weights(), layout);
  const prints = sides.flatMap((side) =>
    sizes.map((samples) => {
      const pixels = side * side * shape.channels;
      const labels = new Int32Array(memory.buffer, slot + at.labels, samples);
      for (let i = 0; i < samples; i++) {
        const draw = new Stream(recipe.seed, DOMAIN.fingerprint, i, side);
        for (let j = 0; j < raw.length; j++) raw[j] = draw.uint32();
        augmenter.train(raw, 0, i, side, new Float32Array(memory.buffer, slot + at.images + i * pixels * 4, pixels));
        labels[i] = i % recipe.data.classes;
      }
      arithmetic.zero(buffer.address, buffer.bytes);
      const mixed = at.mixed === null ? null : { labels: slot + at.mixed.labels, shares: slot + at.mixed.shares };
      if (mixer !== null && mixed !== null) {
        const images = new Float32Array(memory.buffer, slot + at.images, samples * pixels);
        const otherLabels = new Int32Array(memory.buffer, mixed.labels, samples);
        const shares = new Float32Array(memory.buffer, mixed.shares, samples);
        mixer.mix(
          { images, labels, ids: Int32Array.from({ length: samples }, (_, i) => i), otherLabels, shares },
          0,
          side,
        );
      }
      const at0 = { epoch: 0, step: 0, shard: 0 };
      const input = { images: slot + at.images, labels: slot + at.labels, mixed, samples, side, ...at0 };
      gradient.run(input, buffer.address);
      arithmetic.blockHashes(buffer.address, layout.vectorFloats, buffer.table);
      return hex64(arithmetic.hashTable(buffer.table, buffer.entries));
    }),
  );
  lull();
  return prints;
}

/** Sets scales that are all zero to one; the function returned sets them back. */
function wakeScales(weights: Float32Array, { trainable }: Layout): () => void {
  const asleep = trainable
    .filter(({ role }) => role === "gamma")
    .map(({ offset, size }) => weights.subarray(offset, offset + size))
    .filter((values) => values.every((value) => value === 0));
  for (const values of asleep) values.fill(1);
  return () => {
    for (const values of asleep) values.fill(0);
  };
}
