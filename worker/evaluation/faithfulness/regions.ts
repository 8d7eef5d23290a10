import { existsSync, readFileSync } from "node:fs";
import { z } from "zod";
import { LockstepError } from "../../../shared/errors.ts";
import { type Grid, upsample } from "../maps.ts";

/** An ellipse that a person drew around what matters in a picture, in pixels; the angle in radians. */
export interface Ellipse {
  readonly x: number;
  readonly y: number;
  readonly radiusX: number;
  readonly radiusY: number;
  readonly angle: number;
}

const COLUMNS = ["Split", "Image", "CategoryGT", "CenterX", "CenterY", "RadiusX", "RadiusY", "Angle"] as const;
const number = z.coerce.number().refine(Number.isFinite);
const rowSchema = z.object({
  Split: z.enum(["train", "test"]),
  Image: z.string().regex(/^\d+(\.\w+)?$/),
  CategoryGT: z.string(),
  CenterX: number,
  CenterY: number,
  RadiusX: number.refine((radius) => radius > 0),
  RadiusY: number.refine((radius) => radius > 0),
  Angle: number,
});

/**
 * Regions of the test images from a file in the form of stl10_nara.csv (Arai, Shirakawa, Nagao, Non-strict Attentional
 * Region Annotation, SMC 2021), which users fetch themselves, for its licence is its own.
 * @returns ellipses by place in the test set
 * @throws LockstepError LS_REGIONS with the line that is wrong
 */
export function readRegions(
  file: string,
  classNames: readonly string[],
  labels: ArrayLike<number>,
): Map<number, Ellipse[]> {
  const refused = (where: string, what: string) =>
    new LockstepError("LS_REGIONS", `${where}: ${what}.`, {
      hint: `The file must have the columns ${COLUMNS.join(", ")}, as stl10_nara.csv has.`,
      exitCode: 2,
    });
  const wrong = (line: number, what: string) => refused(`${file}, line ${line}`, what);
  if (!existsSync(file)) throw refused(file, "there is no such file");
  const lines = readFileSync(file, "utf8").split(/\r?\n/);
  const header = lines[0]!.split(",").map((name) => name.trim());
  const missing = COLUMNS.filter((name) => !header.includes(name));
  if (missing.length > 0) throw wrong(1, `column ${missing[0]} is missing`);
  const regions = new Map<number, Ellipse[]>();
  lines.slice(1).forEach((text, index) => {
    if (text.trim() === "") return;
    const cells = text.split(",");
    const row = rowSchema.safeParse(Object.fromEntries(header.map((name, i) => [name, cells[i]?.trim()])));
    if (!row.success) throw wrong(index + 2, `${row.error.issues[0]!.path.join(".")} is not what it should be`);
    const {
      Split,
      Image,
      CategoryGT,
      CenterX: x,
      CenterY: y,
      RadiusX: radiusX,
      RadiusY: radiusY,
      Angle: angle,
    } = row.data;
    if (Split !== "test") return;
    const id = Number.parseInt(Image, 10);
    if (id >= labels.length) throw wrong(index + 2, `there is no test image ${id}`);
    const named = classNames.indexOf(CategoryGT);
    if (named >= 0 && named !== labels[id]) {
      throw wrong(index + 2, `image ${id} is called ${CategoryGT}, the data set says ${classNames[labels[id]!]}`);
    }
    regions.set(id, [...(regions.get(id) ?? []), { x, y, radiusX, radiusY, angle }]);
  });
  return regions;
}

/** Pixels inside the ellipses of at least half of the people who drew some. */
export function regionMask(ellipses: readonly Ellipse[], height: number, width: number): Uint8Array {
  const needed = Math.max(1, ellipses.length / 2);
  return Uint8Array.from({ length: height * width }, (_, pixel) => {
    const [py, px] = [Math.floor(pixel / width), pixel % width];
    const inside = ellipses.filter(({ x, y, radiusX, radiusY, angle }) => {
      const [dx, dy] = [px - x, py - y];
      const along = Math.cos(angle) * dx + Math.sin(angle) * dy;
      const across = -Math.sin(angle) * dx + Math.cos(angle) * dy;
      return (along / radiusX) ** 2 + (across / radiusY) ** 2 <= 1;
    });
    return inside.length >= needed ? 1 : 0;
  });
}

export interface Pointed {
  /** Whether the strongest place lies in the region (Zhang et al. 2018, the pointing game). */
  readonly hit: boolean;
  /** Share of the positive evidence that lies in the region (Wang et al. 2020, energy-based pointing game). */
  readonly energy: number;
  /** Share of the picture that the region covers: what a uniform map would reach. */
  readonly area: number;
}

/** Compares one map with a region; null where the map speaks for no place or the region is empty. */
export function pointed(map: Grid, region: Uint8Array, height: number, width: number): Pointed | null {
  const { values } = upsample(map, height, width);
  let [best, inside, all, area] = [0, 0, 0, 0];
  values.forEach((value, i) => {
    if (value > values[best]!) best = i;
    const positive = Math.max(0, value);
    all += positive;
    if (region[i] !== 1) return;
    inside += positive;
    area += 1;
  });
  if (area === 0 || !(all > 0) || !Number.isFinite(all)) return null;
  return { hit: region[best] === 1, energy: inside / all, area: area / values.length };
}
