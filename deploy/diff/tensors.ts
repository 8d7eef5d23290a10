import { BLOCK } from "../../shared/model/layout.ts";
import type { FlatLayout, TensorPlace } from "../../worker/replay/replay.ts";

/** A tensor in which two flat vectors differ. */
export interface TensorDifference {
  readonly name: string;
  readonly size: number;
  /** Values whose bits differ. */
  readonly differing: number;
  /** Largest distance of two values; null where one is not finite. */
  readonly largest: number | null;
}

/** Tensors of a gradient or weight vector in which a and b differ, by name, in the first one's model order. */
export function differingTensors(
  a: Float32Array,
  b: Float32Array,
  layout: FlatLayout,
  other: FlatLayout = layout,
): TensorDifference[] {
  const places = new Map(other.tensors.map((place) => [place.name, place]));
  return layout.tensors.flatMap((place) => {
    const twin = places.get(place.name);
    const values = a.subarray(place.offset, place.offset + place.size);
    if (place.offset >= a.length) return [];
    if (twin?.size !== place.size) return [whole(place)];
    return differenceOf(place.name, values, b.subarray(twin.offset, twin.offset + twin.size));
  });
}

/** Tensors of a state image, with the section in brackets where it is not the weights. */
export function differingState(
  a: Float32Array,
  b: Float32Array,
  layout: FlatLayout,
  other: FlatLayout = layout,
): TensorDifference[] {
  let [at, bt] = [0, 0];
  return layout.sections.flatMap(({ name, floats }, index) => {
    const twin = other.sections[index];
    if (twin?.name !== name) return [];
    const sections = [a.subarray(at, at + floats), b.subarray(bt, bt + twin.floats)] as const;
    at += floats;
    bt += twin.floats;
    const suffix = name === "weights" ? "" : ` (${name})`;
    return differingTensors(...sections, layout, other).map((found) => ({ ...found, name: `${found.name}${suffix}` }));
  });
}

function differenceOf(name: string, a: Float32Array, b: Float32Array): TensorDifference[] {
  const [left, right] = [wordsOf(a), wordsOf(b)];
  let differing = 0;
  let largest = 0;
  for (let i = 0; i < left.length; i++) {
    if (left[i] === right[i]) continue;
    differing += 1;
    const distance = Math.abs(a[i]! - b[i]!);
    largest = Number.isNaN(distance) ? Number.POSITIVE_INFINITY : Math.max(largest, distance);
  }
  if (differing === 0) return [];
  return [{ name, size: a.length, differing, largest: Number.isFinite(largest) ? largest : null }];
}

const whole = ({ name, size }: TensorPlace): TensorDifference => ({ name, size, differing: size, largest: null });
const wordsOf = (floats: Float32Array) => new Uint32Array(floats.buffer, floats.byteOffset, floats.length);

/** Names of the tensors that have values in a block of a gradient vector, in model order. */
export function tensorsInBlock(block: number, { tensors }: FlatLayout): string[] {
  const [from, to] = [block * BLOCK, (block + 1) * BLOCK];
  return tensors.filter(({ offset, size }) => offset < to && offset + size > from).map(({ name }) => name);
}

/** The tensor that holds a float, and the value's indices in it; null for padding and the sums behind the tensors. */
export function placeOf(float: number, { tensors }: FlatLayout): { name: string; index: readonly number[] } | null {
  const found = tensors.find(({ offset, size }) => offset <= float && float < offset + size);
  if (found === undefined) return null;
  let rest = float - found.offset;
  const index: number[] = [];
  for (const extent of [...found.shape].reverse()) {
    index.unshift(rest % extent);
    rest = Math.floor(rest / extent);
  }
  return { name: found.name, index };
}
