import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  decodePredictions,
  encodePredictions,
  mergePredictions,
  type PredictedBatch,
} from "../../worker/evaluation/predictions.ts";
import { pretend } from "./support.ts";

const labels = Array.from({ length: 23 }, (_, i) => (i * 3) % 5);
const whole = pretend(labels, 5);
const { height, width, values } = whole.maps!;
const area = 2 * height * width;

/** The same predictions, cut into batches of `size`. */
const cut = (size: number): PredictedBatch[] =>
  Array.from({ length: Math.ceil(labels.length / size) }, (_, b) => {
    const from = b * size;
    const to = Math.min(labels.length, from + size);
    const logits = whole.logits.slice(from * 5, to * 5);
    const maps = values.slice(from * area, to * area);
    return {
      from,
      samples: to - from,
      classes: 5,
      logits,
      plainLogits: new Float32Array(0),
      mapHeight: height,
      mapWidth: width,
      maps,
    };
  });

describe("merged predictions", () => {
  it("have the same bits in whatever order batches of whatever size come, and if some come twice", () => {
    const bytes = encodePredictions(whole);
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 30 }).chain((size) => {
          const batches = cut(size);
          return fc.tuple(fc.shuffledSubarray(batches, { minLength: batches.length }), fc.subarray(batches));
        }),
        ([once, again]) => {
          expect(Buffer.compare(encodePredictions(mergePredictions([...once, ...again], labels)), bytes)).toBe(0);
        },
      ),
    );
  });

  it.each([
    ["a batch is missing", cut(8).slice(1), /image 0 has no prediction/],
    ["there is none", [], /image 0 has no prediction/],
    ["one lies beyond the end", [...cut(8), { ...cut(8)[2]!, from: 20 }], /outside of the 23/],
    ["one has other maps", [...cut(8).slice(1), { ...cut(8)[0]!, mapWidth: 1 }], /other shapes/],
    ["one is cut off", [...cut(8).slice(1), { ...cut(8)[0]!, logits: new Float32Array(3) }], /other shapes/],
  ])("are refused where %s", (_, batches, message) => {
    expect(() => mergePredictions(batches, labels)).toThrow(expect.objectContaining({ code: "LS_EVALUATION_BATCHES" }));
    expect(() => mergePredictions(batches, labels)).toThrow(message);
  });
});

describe("the file of predictions", () => {
  it("reads back what was written, also from the middle of a buffer", () => {
    const bytes = encodePredictions(whole);
    const shifted = Buffer.concat([Buffer.from("abc"), bytes]).subarray(3);
    expect(decodePredictions(shifted)).toEqual(whole);
    const plain = { ...whole, maps: null };
    expect(decodePredictions(encodePredictions(plain))).toEqual(plain);
  });

  it("is a safetensors file: u64 length, JSON header, tensors", () => {
    const bytes = encodePredictions(whole);
    const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
    expect(header.logits).toEqual({ dtype: "F32", shape: [23, 5], data_offsets: [0, 460] });
    expect(header.maps.shape).toEqual([23, 2, 9, 9]);
    const at = 8 + length + header.labels.data_offsets[0];
    expect(new DataView(bytes.buffer).getInt32(at + 4, true)).toBe(3);
  });

  it.each([
    ["nothing", new Uint8Array(3), "LS_SAFETENSORS"],
    ["half of it", encodePredictions(whole).subarray(0, 900), "LS_SAFETENSORS"],
    [
      "a label outside of the classes",
      encodePredictions({ ...whole, labels: Int32Array.from(labels, () => 9) }),
      "LS_EVALUATION_FILE",
    ],
  ])("that holds %s is refused", (_, bytes, code) => {
    expect(() => decodePredictions(bytes)).toThrow(expect.objectContaining({ code }));
  });
});
