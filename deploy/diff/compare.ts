import { digestOf } from "../../coordinator/records/record.ts";
import type { RunHistory, StepFacts } from "./run-history.ts";

/** Where two runs part: the first step whose records differ, and the first shard of it. */
export interface FirstDifference {
  readonly step: number;
  /**
   * shards: the runs have different numbers of them; samples: other sample ids were fed; gradient: the same samples gave
   * another gradient; update: all gradients are equal, what was made of them is not.
   */
  readonly kind: "shards" | "samples" | "gradient" | "update";
  /** The first shard that differs; null for shards and update. */
  readonly shard: number | null;
  /** All shards that differ in this step. */
  readonly shards: readonly number[];
}

/** Pure: two histories side by side, steps by their contents. Lineages are not compared: they contain the recipe. */
export function firstDifference(a: RunHistory, b: RunHistory): FirstDifference | null {
  const steps = Math.min(a.steps.length, b.steps.length);
  for (let step = 0; step < steps; step++) {
    const difference = differenceOf(a.steps[step]!, b.steps[step]!);
    if (difference !== null) return { step, ...difference };
  }
  return null;
}

function differenceOf(a: StepFacts, b: StepFacts): Omit<FirstDifference, "step"> | null {
  if (a.samples.length !== b.samples.length) return { kind: "shards", shard: null, shards: [] };
  const all = [...a.samples.keys()];
  const fedOtherwise = (shard: number) =>
    digestOf(a.ids, shard) !== digestOf(b.ids, shard) || a.samples[shard] !== b.samples[shard];
  const differs = (shard: number) =>
    fedOtherwise(shard) || digestOf(a.gradients, shard) !== digestOf(b.gradients, shard);
  const shards = all.filter(differs);
  const [shard] = shards;
  if (shard !== undefined) return { kind: fedOtherwise(shard) ? "samples" : "gradient", shard, shards };
  // The newest step's hash may not be recorded yet.
  const known = a.state !== "" && b.state !== "";
  if ((known && a.state !== b.state) || a.applied !== b.applied) {
    return { kind: "update", shard: null, shards: [] };
  }
  return null;
}
