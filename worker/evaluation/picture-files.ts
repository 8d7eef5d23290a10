import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LockstepError } from "../../shared/errors.ts";
import { mapOf, normaliseMap } from "./maps.ts";
import { predictedClasses } from "./metrics/probabilities.ts";
import { overlayPng } from "./overlay.ts";
import type { ImageSource } from "./pictures.ts";
import type { Predictions } from "./predictions.ts";

/** Which test images: all, those told wrong, or these. */
export type PictureChoice = "all" | "errors" | readonly number[];

/** Enlargement of the picture files, so that small images can be seen. */
const SCALE = 4;

/** @throws LockstepError LS_PICTURES for an image that does not exist */
export function checkChoice(choice: PictureChoice, testImages: number): void {
  const missing = typeof choice === "string" ? undefined : choice.find((image) => image >= testImages);
  if (missing !== undefined) throw refused(`There is no test image ${missing}; the last is ${testImages - 1}`);
}

/**
 * Writes images with the map of the predicted class as PNG files, named by place, true class and predicted class.
 * @throws LockstepError LS_PICTURES for a model without maps
 */
export async function writePictures(
  choice: PictureChoice,
  predictions: Predictions,
  source: ImageSource,
  classNames: readonly string[],
  directory: string,
): Promise<number> {
  const { labels, maps } = predictions;
  if (maps === null) throw refused("This model has no maps to draw");
  const predicted = predictedClasses(predictions);
  const all = [...labels.keys()];
  const chosen = choice === "all" ? all : choice === "errors" ? all.filter((i) => predicted[i] !== labels[i]) : choice;
  mkdirSync(directory, { recursive: true });
  const { channels, height, width } = source.shape;
  const pixels = new Uint8Array(channels * height * width);
  for (const image of chosen) {
    source.read(image, pixels);
    const map = normaliseMap(mapOf(maps, image, 0));
    const name = `${String(image).padStart(5, "0")}-${classNames[labels[image]!]}-as-${classNames[predicted[image]!]}.png`;
    const picture = { height, width, channels, data: pixels };
    writeFileSync(join(directory, name.replace(/[^\w.-]+/g, "_")), await overlayPng(picture, map, SCALE));
  }
  return chosen.length;
}

const refused = (what: string) =>
  new LockstepError("LS_PICTURES", `${what}.`, { hint: "Give other images with --pictures, or none.", exitCode: 2 });
