import type { Analysis } from "./analysis.ts";
import { type Grid, type MapKind, mapOf, normaliseMap, placeOf } from "./maps.ts";
import { mapWebp, type Pixels, pictureWebp } from "./overlay.ts";
import type { Predictions } from "./predictions.ts";
import { sharp } from "./sharp.ts";

/** Where test images come from; `Split` of the data reader is one. */
export interface ImageSource {
  readonly shape: { readonly channels: number; readonly height: number; readonly width: number };
  /** Writes image `id` as uint8 [height, width, channels]. */
  read(id: number, into: Uint8Array): void;
}

/** A test image with what the model thought of it, ready to be put on the page. */
export interface Picture {
  readonly id: number;
  readonly actual: string;
  readonly predicted: string;
  readonly right: boolean;
  readonly confidence: number;
  readonly trueProbability: number;
  /** data: URIs; the maps are laid over the image. */
  readonly image: string;
  readonly map: string | null;
  /** Of errors, on the same scale as `map`. */
  readonly trueMap: string | null;
  readonly kind: MapKind | null;
  readonly trueKind: MapKind | null;
  /** The picture in words. */
  readonly alternative: string;
  readonly trueAlternative: string;
}

/** Longest side of an embedded picture, and the least side of an embedded map, in pixels. */
const LONGEST = 160;
const LEAST_MAP = 96;

export const percent = (share: number, digits = 0): string => `${(100 * share).toFixed(digits)} %`;

/** Makes pictures, each image once. */
export class PictureMaker {
  readonly #made = new Map<number, Promise<Picture>>();
  readonly #predictions: Predictions;
  readonly #analysis: Analysis;
  readonly #names: readonly string[];
  readonly #source: ImageSource;

  constructor(predictions: Predictions, analysis: Analysis, names: readonly string[], source: ImageSource) {
    this.#predictions = predictions;
    this.#analysis = analysis;
    this.#names = names;
    this.#source = source;
  }

  of(id: number): Promise<Picture> {
    const known = this.#made.get(id) ?? this.#make(id);
    this.#made.set(id, known);
    return known;
  }

  all(ids: readonly number[]): Promise<Picture[]> {
    return Promise.all(ids.map((id) => this.of(id)));
  }

  /** The pixels of a test image as stored. */
  pixels(id: number): Pixels {
    const { channels, height, width } = this.#source.shape;
    const data = new Uint8Array(channels * height * width);
    this.#source.read(id, data);
    return { channels, height, width, data };
  }

  async #make(id: number): Promise<Picture> {
    const { classes, maps, labels } = this.#predictions;
    const { predicted, right, confidences, probabilities } = this.#analysis;
    const label = labels[id]!;
    const actual = this.#names[label]!;
    const called = this.#names[predicted[id]!]!;
    const own = maps === null ? null : normaliseMap(mapOf(maps, id, 0));
    const other = maps === null || right[id] ? null : normaliseMap(mapOf(maps, id, 1));
    // One scale for both, so that the eye compares what spoke for the error with what spoke for the truth.
    const scale = Math.max(peakOf(own), peakOf(other));
    const { picture, size } = await this.#fit(this.pixels(id));
    const drawn = (which: 0 | 1) => this.#drawMap(normaliseMap(mapOf(maps!, id, which), scale), size);
    const verdict = right[id] ? "recognised" : `taken for ${called}`;
    return {
      id,
      actual,
      predicted: called,
      right: right[id]!,
      confidence: confidences[id]!,
      trueProbability: probabilities[id * classes + label]!,
      image: picture,
      map: own === null ? null : await drawn(0),
      trueMap: other === null ? null : await drawn(1),
      kind: own?.kind ?? null,
      trueKind: other?.kind ?? null,
      alternative:
        `Test image ${id}: ${actual}, ${verdict} at ${percent(confidences[id]!)}. ${described(own, called)}`.trim(),
      trueAlternative: `Test image ${id}: ${actual}. ${described(other, actual)}`.trim(),
    };
  }

  async #fit(pixels: Pixels): Promise<{ picture: string; size: { height: number; width: number } }> {
    const { height, width, channels, data } = pixels;
    const factor = Math.min(1, LONGEST / Math.max(height, width));
    const size = { height: Math.round(height * factor), width: Math.round(width * factor) };
    const raw = { height, width, channels: channels as 1 | 3 };
    const fitted =
      factor === 1 ? pixels : { ...pixels, ...size, data: await sharp(data, { raw }).resize(size).raw().toBuffer() };
    return { picture: uri("image/webp", await pictureWebp(fitted)), size };
  }

  async #drawMap(map: Grid, size: { height: number; width: number }): Promise<string> {
    const factor = Math.max(1, LEAST_MAP / Math.min(size.height, size.width));
    return uri("image/webp", await mapWebp(map, Math.round(size.height * factor), Math.round(size.width * factor)));
  }
}

const peakOf = (map: { readonly kind: MapKind; readonly peak: number } | null) =>
  map === null || map.kind === "invalid" ? 0 : map.peak;

const uri = (type: string, bytes: Buffer) => `data:${type};base64,${bytes.toString("base64")}`;

/** The map in words. */
function described(map: (Grid & { readonly kind: MapKind }) | null, name: string): string {
  switch (map?.kind) {
    case undefined:
      return "";
    case "evidence":
      return `Strongest evidence for ${name}: ${placeOf(map!)}.`;
    case "uniform":
      return `The map for ${name} is the same everywhere.`;
    case "none":
      return `No place speaks for ${name}.`;
    case "invalid":
      return `The map for ${name} holds values that are no numbers.`;
  }
}
