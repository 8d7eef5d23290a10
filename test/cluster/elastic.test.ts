import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { LineTail } from "../../deploy/up/line-tail.ts";
import { bitsOf, linesOf, readJson, SMALL_SET, summaryOf, train } from "../up/runs.ts";
import { lockstep, type Scratch, scratch, until } from "../up/support.ts";

/** Real processes: shards leave a worker that is slow, workers come and go down to nobody, and the bits do not notice. */
const STEPS = 200;
let place: Scratch;
let data: string;
let recipe: readonly string[];
/** What one undisturbed worker makes of the same. */
let alone: string;
beforeAll(async () => {
  place = scratch();
  data = join(place.path, "data");
  await writeSynthetic(data, SMALL_SET);
  recipe = ["--model", small(place.path), "--steps", String(STEPS), "--batch", "16"];
  alone = join(place.path, "alone");
  const quiet = train(data, alone, 1, recipe);
  expect((await quiet.ended).code, quiet.err()).toBe(0);
});
afterAll(() => place[Symbol.dispose]());

interface StepLine {
  readonly step: number;
  readonly shards: readonly { readonly shard: number; readonly by: string }[];
}
/** The lines of a run that is under way. */
const linesSoFar = <Line>(...path: string[]) => new LineTail(join(...path)).read() as unknown as Line[];

test("a slowed worker's shards move to the fast one; the hash is that of one undisturbed worker", async () => {
  const out = join(place.path, "slowed");
  // Not how fast this machine is decides, but the delay: it makes a shard take many times longer on any machine.
  const run = train(data, out, 2, ["--config", quick(place.path), ...recipe], { LOCKSTEP_SHARD_DELAY: "worker-1:250" });
  expect((await run.ended).code, run.err()).toBe(0);

  expect(bitsOf(summaryOf(out))).toEqual(bitsOf(summaryOf(alone)));
  expect(summaryOf(out)).toMatchObject({ samplesPerEpochExact: true, failuresSurvived: 0 });
  const views = linesOf<Event>(out, "events.ndjson");
  const moves = views.filter(({ type, reason }) => type === "view" && reason.startsWith("balance"));
  expect(moves.length).toBeGreaterThan(0);
  expect(moves.every(({ planned }) => planned)).toBe(true);
}, 300_000);

test("scales from one worker to three and down to nobody, each leave planned, and waits; the next worker ends the run", async () => {
  const out = join(place.path, "scaled");
  mkdirSync(out);
  const config = readJson(alone, "config.json");
  const elsewhere = { ...(config.place as object), outDirectory: out };
  writeFileSync(join(out, "config.json"), JSON.stringify({ ...config, runId: "scaled", place: elsewhere }));
  const coordinator = lockstep(["coordinator", out]);
  await until(() => existsSync(join(out, "endpoints.json")));
  // Slow enough that the run does not end before everybody has come and gone; the last one hurries.
  const worker = (name: string, delay = 60) =>
    lockstep(["worker", "--join", join(out, "endpoints.json"), "--name", name], {
      LOCKSTEP_SHARD_DELAY: `${name}:${delay}`,
    });
  const owners = () =>
    new Set(
      linesSoFar<StepLine>(out, "steps.ndjson")
        .at(-1)
        ?.shards.map(({ by }) => by),
    ).size;
  const views = () => linesSoFar<Event>(out, "events.ndjson").filter(({ type }) => type === "view");

  const a = worker("a");
  await until(() => owners() === 1);
  const b = worker("b");
  const c = worker("c");
  // All three are level; how many of them get shards depends on how slow the first one is.
  await until(() =>
    views().some(({ shards }) => Object.values(shards).filter((range) => range !== "joining").length === 3),
  );
  b.signal("SIGTERM");
  expect((await b.ended).code, b.err()).toBe(0);
  await until(() => views().some(({ reason }) => reason === "leave: b"));
  for (const last of [a, c]) last.signal("SIGTERM");
  for (const last of [a, c]) expect((await last.ended).code, last.err()).toBe(0);

  const waiting = lockstep(["status", out, "--json"]);
  expect((await waiting.ended).code).toBe(0);
  const { step, waiting: whom } = JSON.parse(waiting.out()) as { step: number; waiting: string };
  expect(whom).toBe("0 of at least 1 workers are there");
  expect(step).toBeLessThan(STEPS);
  const d = worker("d", 0);
  expect((await coordinator.ended).code, coordinator.err()).toBe(0);
  expect((await d.ended).code).toBe(0);

  // Weights are exported, and hashed, by `up` alone.
  const { stateSha256, lineage } = summaryOf(alone);
  const exact = { stateSha256, lineage, samplesPerEpochExact: true };
  expect(summaryOf(out)).toMatchObject({ ...exact, failuresSurvived: 0, workers: 3 });
  // Next to nothing is done again: the checkpoint for which the last one waited holds its last step, or the one before.
  const back = linesOf<Event>(out, "events.ndjson").filter(({ type }) => type === "fallback");
  expect(back).toHaveLength(1);
  expect(back[0]!.fromStep - back[0]!.toStep).toBeLessThanOrEqual(1);
}, 300_000);

interface Event {
  readonly type: string;
  readonly planned: boolean;
  readonly reason: string;
  readonly shards: Readonly<Record<string, string>>;
  readonly fromStep: number;
  readonly toStep: number;
}

/** A model of a few hundred weights: what takes time here is what is injected. */
function small(folder: string): string {
  const file = join(folder, "small.mjs");
  const layers = [
    "tf.layers.conv2d({ inputShape: shape, filters: 8, kernelSize: 3, strides: 2, useBias: false })",
    "tf.layers.batchNormalization()",
    'tf.layers.activation({ activation: "relu" })',
    "tf.layers.globalAveragePooling2d({})",
    "tf.layers.dense({ units: classes })",
  ];
  writeFileSync(file, `export default (tf, shape, classes) => tf.sequential({ layers: [${layers.join(", ")}] });\n`);
  return file;
}

/** Moves after a few steps already: the test is short. */
function quick(folder: string): string {
  const file = join(folder, "quick.json");
  writeFileSync(file, JSON.stringify({ place: { balance: { gain: 0.3, steps: 4 } } }));
  return file;
}
