import { scheme } from "vega";
import { type Grid, upsample } from "./maps.ts";
import { sharp } from "./sharp.ts";

/** An image as uint8 [height, width, channels], one or three channels. */
export interface Pixels {
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  readonly data: Uint8Array;
}

/** Opacity of the strongest evidence; less evidence is more transparent, none is clear. */
const STRONGEST = 0.8;

/** Colours of evidence from 0 to 1 in 256 steps, RGBA. Opacity grows with evidence, so that absence leaves the picture be. */
const PALETTE = (() => {
  const colours = scheme("turbo") as (share: number) => string;
  const table = new Uint8Array(256 * 4);
  for (let i = 0; i < 256; i++) {
    const share = i / 255;
    const [red, green, blue] = channelsOf(colours(share));
    table.set([red, green, blue, Math.round(255 * STRONGEST * share ** 1.1)], i * 4);
  }
  return table;
})();

/** The colours of 256 strengths, RGBA. */
export const paletteBytes = (): Uint8Array => Uint8Array.from(PALETTE);

function channelsOf(colour: string): [number, number, number] {
  const parts = /^#/.test(colour)
    ? colour
        .slice(1)
        .match(/../g)!
        .map((hex) => Number.parseInt(hex, 16))
    : colour.match(/\d+/g)!.map(Number);
  return [parts[0]!, parts[1]!, parts[2]!];
}

/** The colours as a CSS gradient, for the legend. */
export function paletteGradient(): string {
  const stops = Array.from({ length: 12 }, (_, i) => {
    const [red, green, blue, alpha] = PALETTE.subarray(
      Math.round((i / 11) * 255) * 4,
      Math.round((i / 11) * 255) * 4 + 4,
    );
    return `rgb(${red} ${green} ${blue} / ${(alpha! / 255).toFixed(2)})`;
  });
  return `linear-gradient(90deg, ${stops.join(", ")})`;
}

/** The coloured, half transparent form of a normalised map, enlarged: RGBA, uint8 [height, width, 4]. */
export function colourMap(map: Grid, height: number, width: number): Uint8Array {
  const { values } = upsample(map, height, width);
  const rgba = new Uint8Array(values.length * 4);
  values.forEach((value, i) => {
    const entry = Math.round(Math.min(1, Math.max(0, value)) * 255) * 4;
    for (let c = 0; c < 4; c++) rgba[i * 4 + c] = PALETTE[entry + c]!;
  });
  return rgba;
}

/** A picture as WebP, small enough to embed by the dozen. */
export function pictureWebp({ height, width, channels, data }: Pixels, quality = 86): Promise<Buffer> {
  return sharp(data, { raw: { width, height, channels: channels as 1 | 3 } })
    .webp({ quality, effort: 4 })
    .toBuffer();
}

/** A coloured map as WebP with transparency, to be laid over a picture of the same extent. */
export function mapWebp(map: Grid, height: number, width: number): Promise<Buffer> {
  return sharp(colourMap(map, height, width), { raw: { width, height, channels: 4 } })
    .webp({ quality: 80, alphaQuality: 80, effort: 4 })
    .toBuffer();
}

/** Picture and map in one, as PNG, enlarged `scale` times. */
export async function overlayPng(picture: Pixels, map: Grid, scale = 1): Promise<Buffer> {
  const { width, height, channels, data } = picture;
  const size = { width: width * scale, height: height * scale };
  const base = await sharp(data, { raw: { width, height, channels: channels as 1 | 3 } })
    .resize({ ...size, kernel: "lanczos3" })
    .toColourspace("srgb")
    .png()
    .toBuffer();
  const layer = { input: Buffer.from(colourMap(map, size.height, size.width)), raw: { ...size, channels: 4 as const } };
  return sharp(base).composite([layer]).png().toBuffer();
}
