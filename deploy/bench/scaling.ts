import { type Spread, spreadOf } from "../../worker/bench/spread.ts";
import { MeasuredRuns, stepMillis } from "./measured-run.ts";

export interface ScalingOptions {
  /** A key of BENCH_MODELS. */
  readonly model: string;
  readonly precision: "float32" | "bf16";
  readonly workers: number;
  readonly batch: number;
  readonly shards: number;
  /** Steps that are timed in each run, after WARM_UP others. */
  readonly steps: number;
  readonly tries: number;
}

export interface ScalingFigures extends ScalingOptions {
  /** Images a second of one worker, pinned to one core with all its threads. */
  readonly one: Spread;
  /** Of all workers, worker k pinned to core k. */
  readonly all: Spread;
  /** Of all workers when none of their gradients are exchanged: the compute ceiling. */
  readonly ceiling: Spread;
  /** all / (workers * one), in each try. */
  readonly ofIdeal: Spread;
  /** all / ceiling, in each try. */
  readonly ofCeiling: Spread;
  /** What the exchange adds to a step, in milliseconds. */
  readonly exposedMillis: Spread;
}

export const WARM_UP = 3;

/**
 * Whole runs of `lockstep up` in turns: one worker, all workers, all workers without exchange.
 * @throws LockstepError LS_BENCH
 */
export async function benchScaling(options: ScalingOptions): Promise<ScalingFigures> {
  const { model, precision, workers, batch, shards, steps, tries } = options;
  const runs = new MeasuredRuns();
  try {
    await runs.prepare(batch * (WARM_UP + steps + 2));
    const timed = async (count: number, ...more: string[]) => {
      const shape = { model, precision, batch, shards, workers: count, steps: WARM_UP + steps + 1, more };
      return stepMillis((await runs.run(shape)).steps, WARM_UP);
    };
    const millis: { one: number; all: number; ceiling: number }[] = [];
    for (let i = 0; i < tries; i++) {
      const one = await timed(1);
      const all = await timed(workers);
      millis.push({ one, all, ceiling: await timed(workers, "--exchange", "none") });
    }
    const rate = (name: "one" | "all" | "ceiling") => spreadOf(millis.map((each) => (batch / each[name]) * 1000));
    return {
      ...options,
      one: rate("one"),
      all: rate("all"),
      ceiling: rate("ceiling"),
      ofIdeal: spreadOf(millis.map(({ one, all }) => one / (workers * all))),
      ofCeiling: spreadOf(millis.map(({ ceiling, all }) => ceiling / all)),
      exposedMillis: spreadOf(millis.map(({ ceiling, all }) => all - ceiling)),
    };
  } finally {
    runs.remove();
  }
}
