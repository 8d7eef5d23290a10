import { describe, expect, it } from "vitest";
import { parseRunOptions } from "../../shared/config/options.ts";

const refusal = (message: string) => expect.objectContaining({ code: "LS_USAGE", exitCode: 2, message });

describe("options", () => {
  it("are read from text and leave out what is not theirs", () => {
    expect(parseRunOptions({ workers: "3", lr: "1e-2", eval: false, json: true, seed: "0" })).toEqual({
      workers: 3,
      lr: 0.01,
      eval: false,
      seed: 0,
    });
  });

  it.each([
    [{ workers: "two" }, '--workers must be a whole number of at least 1; it is "two".'],
    [{ minWorkers: 0 }, "--min-workers must be a whole number of at least 1; it is 0."],
    [{ batch: "1.5" }, '--batch must be a whole number of at least 1; it is "1.5".'],
    [{ batch: "" }, '--batch must be a whole number of at least 1; it is "".'],
    [{ epochs: "0" }, '--epochs must be a number above 0; it is "0".'],
    [{ lr: "NaN" }, '--lr must be a number above 0; it is "NaN".'],
    [{ seed: 2 ** 32 }, "--seed must be a whole number from 0 to 4294967295; it is 4294967296."],
    [{ precision: "int8" }, '--precision must be one of auto, float32, bf16; it is "int8".'],
    [{ data: true }, "--data must be a directory; it is true."],
    [{ epochs: 1, steps: 2 }, "--epochs and --steps exclude each other."],
  ])("refuse %j", (options, message) => {
    expect(() => parseRunOptions(options)).toThrow(refusal(message));
  });
});
