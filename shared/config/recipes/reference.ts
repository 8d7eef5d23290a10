import { fast } from "./fast.ts";
import type { NamedRecipe } from "./recipe.ts";

/**
 * The two networks of the reference work, three convolutions and 24 layers, with a schedule that is long enough for them.
 * The small network is wider than by default, 3.0 M parameters, since under this augmentation the default one does not even
 * fit its training images; its file stays far smaller than the reference's.
 */
export const reference: NamedRecipe = {
  purpose: "the two networks of the reference work (--model alexnet or resnet), trained well",
  settings: {
    ...fast.settings,
    recipe: "reference",
    model: { name: "alexnet", options: { widths: [64, 224, 512] }, statisticsMomentum: 0.9 },
    epochs: 176,
    warmup: 0.05,
    resolutions: [
      { fromEpoch: 0, part: 2 / 3 },
      { fromEpoch: 96, side: null },
    ],
  },
  models: {
    resnet: {
      model: { name: "resnet", options: { dropout: 0.1 }, statisticsMomentum: 0.9 },
      epochs: 140,
      warmup: 0.1,
      resolutions: [
        { fromEpoch: 0, part: 2 / 3 },
        { fromEpoch: 90, side: null },
      ],
    },
  },
  expected: {
    alexnet: { accuracy: "above 74.65 %, aim 78 %", cost: "about 40 minutes" },
    resnet: { accuracy: "above 80.9 %, aim 85 %", cost: "about 40 minutes" },
  },
};
