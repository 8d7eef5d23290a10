import { RECIPES, settingsWith } from "../../../shared/config/recipes/index.ts";
import type { Settings } from "../../../shared/config/settings.ts";

/** A recipe with one ingredient taken away or changed. */
export interface Variant {
  readonly name: string;
  readonly change: Partial<Settings>;
}

/**
 * The recipe itself first, then one change each; what a recipe does not have is not taken away from it.
 * @throws RangeError for an unknown recipe
 */
export function variantsOf(
  recipe: string,
  model: string | undefined,
): { base: Settings; variants: readonly Variant[] } {
  const named = RECIPES[recipe];
  if (named === undefined) throw new RangeError(`no recipe ${recipe}`);
  const base = settingsWith(named, model);
  const { augmentation, shards, batch, peakRate } = base;
  const changed = (change: Partial<Settings["augmentation"]>) => ({ augmentation: { ...augmentation, ...change } });
  const whole = [{ fromEpoch: 0, side: null }];
  const variants: (Variant | null)[] = [
    { name: "as it is", change: {} },
    augmentation.resizedCrop && {
      name: "crop of 12 pixels for the resized one",
      change: changed({ resizedCrop: null, cropPadding: 12 }),
    },
    augmentation.colour && { name: "no colour", change: changed({ colour: null }) },
    augmentation.cutout === 0 ? null : { name: "no cutout", change: changed({ cutout: 0 }) },
    augmentation.flip === 0 ? null : { name: "no flip", change: changed({ flip: 0 }) },
    base.labelSmoothing === 0 ? null : { name: "no label smoothing", change: { labelSmoothing: 0 } },
    base.ema && { name: "no moving average", change: { ema: null } },
    base.resolutions.length < 2 ? null : { name: "full images from the start", change: { resolutions: whole } },
    base.resolutions.length < 2
      ? null
      : { name: "never full images", change: { resolutions: base.resolutions.slice(0, 1) } },
    { name: `batch norm in groups of ${Math.round((2 * batch) / shards)}`, change: { shards: shards / 2 } },
    { name: `batch norm in groups of ${Math.round(batch / 2 / shards)}`, change: { shards: shards * 2 } },
    { name: `batch ${batch * 2}, rate ${2 * peakRate}`, change: { batch: batch * 2, peakRate: 2 * peakRate } },
  ];
  return { base, variants: variants.filter((variant) => variant !== null) };
}
