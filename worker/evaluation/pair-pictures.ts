import { analyse } from "./analysis.ts";
import type { Compared } from "./comparison.ts";
import type { PairExamples } from "./map-comparison.ts";
import { type ImageSource, type Picture, PictureMaker } from "./pictures.ts";

/** One test image with the maps of two models, both for its true class. */
export interface PairPicture {
  readonly first: Picture;
  readonly second: Picture;
}

/** Test images that show where a pair of models looks. */
export interface ShownPair {
  readonly first: string;
  readonly second: string;
  readonly groups: readonly { readonly title: string; readonly pictures: readonly PairPicture[] }[];
}

/** Draws the examples of every pair, in the order of `compare`; null for pairs without maps. */
export async function pairPictures(
  models: readonly Compared[],
  examples: readonly (PairExamples | null)[],
  classNames: readonly string[],
  images: ImageSource,
): Promise<readonly (ShownPair | null)[]> {
  const makers = models.map(
    ({ predictions }) => new PictureMaker(predictions, analyse(predictions), classNames, images),
  );
  const pairs = models.flatMap((_, a) => models.slice(a + 1).map((__, offset) => [a, a + 1 + offset] as const));
  return Promise.all(
    pairs.map(async ([a, b], index) => {
      const chosen = examples[index] ?? null;
      if (chosen === null) return null;
      const [first, second] = [models[a]!.name, models[b]!.name];
      const shown = async (title: string, ids: readonly number[]) => {
        const drawn = ids.map(async (id) => ({ first: await makers[a]!.of(id), second: await makers[b]!.of(id) }));
        return { title, pictures: await Promise.all(drawn) };
      };
      const groups = await Promise.all([
        shown("Both right, looking at the same places", chosen.alike),
        shown("Both right, looking at different places", chosen.apart),
        shown(`Only ${first} is right`, chosen.onlyFirst),
        shown(`Only ${second} is right`, chosen.onlySecond),
      ]);
      return { first, second, groups: groups.filter(({ pictures }) => pictures.length > 0) };
    }),
  );
}
