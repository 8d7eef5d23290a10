import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { analyse } from "../../worker/evaluation/analysis.ts";
import { pairedBootstrap, quantile } from "../../worker/evaluation/metrics/bootstrap.ts";
import { calibrationOf } from "../../worker/evaluation/metrics/calibration.ts";
import { confusedPairs, confusionOf } from "../../worker/evaluation/metrics/confusion.ts";
import { wilson } from "../../worker/evaluation/metrics/interval.ts";
import { mcnemar } from "../../worker/evaluation/metrics/mcnemar.ts";
import { macroOf, perClass } from "../../worker/evaluation/metrics/per-class.ts";
import {
  type Classified,
  predictedClasses,
  softmax,
  surprisals,
} from "../../worker/evaluation/metrics/probabilities.ts";
import { coverageAt, riskCoverage } from "../../worker/evaluation/metrics/risk-coverage.ts";
import { negativeLogLikelihood } from "../../worker/evaluation/metrics/scores.ts";
import { fitTemperature } from "../../worker/evaluation/metrics/temperature.ts";
import { topK } from "../../worker/evaluation/metrics/top-k.ts";

const classified = (rows: readonly (readonly number[])[], labels: readonly number[]): Classified => ({
  samples: rows.length,
  classes: rows[0]!.length,
  logits: Float32Array.from(rows.flat()),
  labels: Int32Array.from(labels),
});

/** The predictions of recorded/scikit-learn.py, by the same formula. */
function made(shift: number): Classified {
  const rows = Array.from({ length: 200 }, (_, i) =>
    Array.from({ length: 7 }, (_, k) => {
      const base = ((i * 7919 + k * 104729 + i * k * 37 + shift) % 1009) / 200 - 2.5 + k / 997;
      return k === (i * 5) % 7 && (i + shift) % 3 !== 0 ? base + 2.5 : base;
    }),
  );
  return classified(
    rows,
    rows.map((_, i) => (i * 5) % 7),
  );
}

describe("against scikit-learn, statsmodels and SciPy", () => {
  const file = new URL("recorded/scikit-learn.json", import.meta.url);
  const recorded = JSON.parse(readFileSync(file, "utf8"));
  const ours = analyse({ ...made(0), plainLogits: null, maps: null }, made(0));

  it("accuracy and its interval", () => {
    expect(ours.top1.value).toBe(recorded.top1);
    expect(topK(made(0), 3).value).toBe(recorded.top3);
    expect([ours.top1.low, ours.top1.high]).toEqual(recorded.wilson.map((bound: number) => expect.closeTo(bound, 12)));
    const { low, high } = wilson(3, 10);
    expect([low, high]).toEqual(recorded.wilson3of10.map((bound: number) => expect.closeTo(bound, 12)));
  });

  it("precision, recall, F1, support and the confusion matrix", () => {
    const close = (values: number[]) => values.map((value) => expect.closeTo(value, 12));
    expect(ours.perClass.map(({ precision }) => precision!.value)).toEqual(close(recorded.precision));
    expect(ours.perClass.map(({ recall }) => recall!.value)).toEqual(close(recorded.recall));
    expect(ours.perClass.map(({ f1 }) => f1)).toEqual(close(recorded.f1));
    expect(ours.perClass.map(({ support }) => support)).toEqual(recorded.support);
    expect([ours.macro.precision, ours.macro.recall, ours.macro.f1]).toEqual(close(recorded.macro));
    expect([...ours.confusion.counts]).toEqual(recorded.confusion.flat());
  });

  it("log loss, Brier score, calibration error, area under the risk-coverage curve", () => {
    expect(ours.negativeLogLikelihood).toBeCloseTo(recorded.logLoss, 10);
    expect(ours.brierScore).toBeCloseTo(recorded.brier, 10);
    expect(ours.calibration.ece).toBeCloseTo(recorded.ece, 10);
    expect(ours.riskCoverage.aurc).toBeCloseTo(recorded.aurc, 10);
  });

  it("the temperature", () => {
    expect(ours.temperature!.value).toBeCloseTo(recorded.temperature, 4);
    expect(ours.temperature!.negativeLogLikelihood).toBeCloseTo(recorded.logLossAtTemperature, 9);
  });

  it("McNemar's exact test and the paired bootstrap", () => {
    const other = analyse({ ...made(1), plainLogits: null, maps: null });
    const { onlyFirst, onlySecond, pValue } = mcnemar(ours.right, other.right);
    expect([onlyFirst, onlySecond]).toEqual([recorded.mcnemar.table[0][1], recorded.mcnemar.table[1][0]]);
    expect(pValue).toBeCloseTo(recorded.mcnemar.pValue, 10);
    const difference = pairedBootstrap(ours.right, other.right, { draws: 4000 });
    expect(difference.value).toBeCloseTo((onlyFirst - onlySecond) / 200, 12);
    // Two Monte Carlo estimates on a grid of 1/200.
    expect(Math.abs(difference.low - recorded.bootstrap[0])).toBeLessThanOrEqual(0.0051);
    expect(Math.abs(difference.high - recorded.bootstrap[1])).toBeLessThanOrEqual(0.0051);
    expect(pairedBootstrap(ours.right, other.right, { draws: 100 })).toEqual(
      pairedBootstrap(ours.right, other.right, { draws: 100 }),
    );
  });
});

describe("cases worked by hand", () => {
  it("Wilson's interval stays inside 0..1 and knows nothing of nothing", () => {
    expect(wilson(0, 0)).toMatchObject({ value: 0, low: 0, high: 1 });
    expect(wilson(5, 5)).toMatchObject({ value: 1, high: 1 });
    expect(wilson(0, 5).low).toBe(0);
    // z^2 / (n + z^2) for no hits.
    expect(wilson(0, 5).high).toBeCloseTo(3.841458820694124 / 8.841458820694124, 12);
    expect(() => wilson(6, 5)).toThrow(RangeError);
  });

  it("of equal logits the first class wins, in the prediction and in every top-k", () => {
    const ties = classified([[1, 1, 1]], [1]);
    expect([...predictedClasses(ties)]).toEqual([0]);
    expect([1, 2, 3].map((k) => topK(ties, k).hits)).toEqual([0, 1, 1]);
  });

  it("softmax and surprisal survive logits that overflow exp", () => {
    const wide = classified([[1000, 0, -1000]], [2]);
    expect([...softmax(wide)]).toEqual([1, 0, 0]);
    expect(surprisals(wide)[0]).toBe(2000);
    expect([...softmax(classified([[0, Math.log(3)]], [0]))]).toEqual([
      expect.closeTo(0.25, 6),
      expect.closeTo(0.75, 6),
    ]);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])("a logit of %d is refused", (value) => {
    const broken = {
      ...classified(
        [
          [0, 0],
          [0, value],
        ],
        [0, 1],
      ),
      plainLogits: null,
      maps: null,
    };
    expect(() => analyse(broken)).toThrow(expect.objectContaining({ code: "LS_EVALUATION_NOT_FINITE" }));
    expect(() => analyse(broken)).toThrow(/test image 1\b/);
  });

  it("classes without samples or without predictions have no recall or precision", () => {
    const confusion = confusionOf(Int32Array.of(0, 0, 1), Int32Array.of(0, 2, 0), 4);
    const metrics = perClass(confusion);
    expect(metrics.map(({ recall }) => recall?.value ?? null)).toEqual([0.5, 0, null, null]);
    expect(metrics.map(({ precision }) => precision?.value ?? null)).toEqual([0.5, null, 0, null]);
    expect(metrics.map(({ f1 }) => f1)).toEqual([0.5, 0, 0, 0]);
    expect(macroOf(metrics)).toEqual({ precision: 0.25, recall: 0.25, f1: 0.25 });
    expect(confusedPairs(confusion, 9)).toEqual([
      { actual: 0, predicted: 2, count: 1, share: 0.5 },
      { actual: 1, predicted: 0, count: 1, share: 1 },
    ]);
  });

  it("a bin holds its upper border, the first one zero as well", () => {
    const { bins, ece, mce } = calibrationOf(Float64Array.of(0, 0.5, 0.5, 1), [false, true, false, true], 2);
    expect(bins.map(({ count }) => count)).toEqual([3, 1]);
    expect(ece).toBe(0);
    expect(mce).toBe(0);
    expect(calibrationOf(Float64Array.of(0.9, 0.8, 0.3), [false, true, true], 2)).toMatchObject({
      ece: expect.closeTo((2 * 0.35 + 0.7) / 3, 12),
      mce: expect.closeTo(0.7, 12),
    });
  });

  it("risk over coverage, and the coverage that a risk allows", () => {
    const curve = riskCoverage(Float64Array.of(0.6, 0.9, 0.7, 0.8), [false, true, false, true]);
    expect([...curve.risks]).toEqual([0, 0, 1 / 3, 0.5]);
    expect(coverageAt(curve, 0)).toBe(0.5);
    expect(coverageAt(curve, 0.34)).toBe(0.75);
    expect(coverageAt(riskCoverage(Float64Array.of(0.9), [false]), 0.1)).toBe(0);
  });

  it("McNemar's test with textbook counts", () => {
    // 1 against 7: 2 * (1 + 8) / 2^8.
    const first = [...Array<boolean>(1).fill(true), ...Array<boolean>(7).fill(false), true];
    const second = [...Array<boolean>(1).fill(false), ...Array<boolean>(7).fill(true), true];
    expect(mcnemar(first, second)).toEqual({ onlyFirst: 1, onlySecond: 7, pValue: expect.closeTo(18 / 256, 12) });
    expect(mcnemar([true], [true]).pValue).toBe(1);
    expect(() => mcnemar([true], [])).toThrow(RangeError);
  });

  it("quantiles lie between neighbours", () => {
    expect(quantile(Float64Array.of(1, 2, 4), 0.75)).toBe(3);
    expect(quantile(Float64Array.of(7), 0.025)).toBe(7);
  });
});

it("temperature scaling undoes the factor by which logits were stretched", () => {
  fc.assert(
    fc.property(fc.double({ min: 0.4, max: 4, noNaN: true }), (factor) => {
      const base = made(0);
      const stretched = { ...base, logits: base.logits.map((value) => value * factor) };
      expect(fitTemperature(stretched) / fitTemperature(base)).toBeCloseTo(factor, 3);
      expect(negativeLogLikelihood(stretched, factor)).toBeCloseTo(negativeLogLikelihood(base), 5);
    }),
    { numRuns: 10 },
  );
});
