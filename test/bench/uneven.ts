import { loadavg } from "node:os";
import { slowestOf } from "../../coordinator/machine/assign.ts";
import { MeasuredRuns } from "../../deploy/bench/measured-run.ts";
import { spreadOf } from "../../worker/bench/spread.ts";

/**
 * One worker at half speed beside a full one: it sleeps after each micro-batch for as long as that took. How close do shards
 * that follow speed come to the best split? `npm run bench:uneven -- [model] [steps]`
 */
const model = process.argv[2] ?? "alexnet";
const steps = Number(process.argv[3] ?? 40);
const [SHARDS, BATCH, MOVE_AFTER] = [16, 128, 4];
const SETTLED = 3;

const runs = new MeasuredRuns();
/** Median micro-batch of each worker by name, in milliseconds, each second. */
const seen: { readonly step: number; readonly times: readonly number[] }[] = [];
try {
  await runs.prepare(BATCH * (steps + 2));
  const { steps: timed, events } = await runs.run({
    ...{ model, precision: "float32", batch: BATCH, shards: SHARDS, workers: 2, steps, balanceAfter: MOVE_AFTER },
    env: { LOCKSTEP_SHARD_DELAY: "worker-1:x2" },
    watch: ({ workers, step }) => {
      const times = workers.toSorted((a, b) => (a.name < b.name ? -1 : 1)).map(({ shardMillis }) => shardMillis);
      if (times.length === 2 && times.every((time) => time > 0)) seen.push({ step, times });
    },
  });
  const moves = events.filter(({ type, reason }) => type === "view" && String(reason).startsWith("balance"));
  const last = moves.at(-1);
  const from = Number(last?.step ?? 0) + SETTLED;
  const intervals = timed.slice(1).map(({ step, time }, i) => ({ step, millis: time - timed[i]!.time }));
  const settled = spreadOf(intervals.filter(({ step }) => step >= from).map(({ millis }) => millis));
  const before = spreadOf(
    intervals.filter(({ step }) => step >= 1 && step < Number(moves[0]?.step ?? steps)).map(({ millis }) => millis),
  );
  const since = seen.filter(({ step }) => step >= from);
  const times = [0, 1].map((worker) => spreadOf(since.map((each) => each.times[worker]!)).median);
  const bound =
    slowestOf(
      SHARDS,
      times.map((millis) => Math.round(millis * 1000)),
    ) / 1000;
  process.stdout.write(
    [
      `model ${model}, ${BATCH} images a step, ${SHARDS} shards; load average ${loadavg()[0]!.toFixed(1)}`,
      `micro-batch    worker-0 ${times[0]!.toFixed(1)} ms, worker-1 ${times[1]!.toFixed(1)} ms`,
      `shards         ${JSON.stringify(last?.shards ?? "never moved")}, ${moves.length} moves, the last before step ${last?.step ?? "-"}`,
      `best split     ${bound.toFixed(1)} ms for the slower worker's shards: the bound`,
      `step           ${settled.median.toFixed(1)} ms (${settled.first.toFixed(1)} to ${settled.third.toFixed(1)}); before the moves ${before.median.toFixed(1)} ms`,
      `of the bound   ${(bound / settled.median).toFixed(3)}`,
      "",
    ].join("\n"),
  );
} finally {
  runs.remove();
}
process.exit(0);
