import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { lockstep, type Scratch, scratch, until } from "../up/support.ts";

/** Real processes: shards leave a worker that is slow, workers come and go down to nobody, and the bits do not notice. */
const STEPS = 200;
let place: Scratch;
let common: string[];
/** What one undisturbed worker makes of the same. */
let alone: string;
beforeAll(async () => {
  place = scratch();
  const data = join(place.path, "data");
  await writeSynthetic(data, { train: 160, test: 20, classes: 4, side: 32, seed: 5 });
  common = ["--data", data, "--model", small(place.path), "--steps", String(STEPS), "--batch", "16", "--seed", "7"];
  common.push("--no-eval", "--no-nats");
  alone = join(place.path, "alone");
  const quiet = lockstep(["up", "--workers", "1", "--out", alone, ...common]);
  expect((await quiet.ended).code, quiet.err()).toBe(0);
});
afterAll(() => place[Symbol.dispose]());

interface StepLine {
  readonly step: number;
  readonly shards: readonly { readonly shard: number; readonly by: string }[];
}
const linesOf = <Line>(file: string): Line[] =>
  existsSync(file)
    ? readFileSync(file, "utf8")
        .split("\n")
        .slice(0, -1)
        .map((line) => JSON.parse(line) as Line)
    : [];
const summaryOf = (out: string) =>
  JSON.parse(readFileSync(join(out, "summary.json"), "utf8")) as Record<string, unknown>;
const bits = ({ weightsSha256, stateSha256, lineage }: Record<string, unknown>) => [
  weightsSha256,
  stateSha256,
  lineage,
];

test("a slowed worker's shards move to the fast one; the hash is that of one undisturbed worker", async () => {
  const out = join(place.path, "slowed");
  // Not how fast this machine is decides, but what is injected: eight times and more is a gain on any machine.
  const run = lockstep(["up", "--workers", "2", "--out", out, "--config", quick(place.path), ...common]);
  const steps = () => linesOf<StepLine>(join(out, "steps.ndjson"));
  const shares = () => {
    const owners = new Map<string, number>();
    for (const { by } of steps().at(-1)?.shards ?? []) owners.set(by, (owners.get(by) ?? 0) + 1);
    return [...owners.values()].sort();
  };
  const inject = async (millis: number) => {
    const command = lockstep(["inject", out, "slow", "--worker", "worker-1", "--millis", String(millis)]);
    expect((await command.ended).code, command.err()).toBe(0);
  };
  await until(() => shares().join() === "4,4" || shares().length === 2);
  await inject(100);
  await until(() => shares().some((share) => share >= 7));
  await inject(0);
  expect((await run.ended).code, run.err()).toBe(0);

  expect(bits(summaryOf(out))).toEqual(bits(summaryOf(alone)));
  expect(summaryOf(out)).toMatchObject({ samplesPerEpochExact: true, failuresSurvived: 0 });
  const views = linesOf<Event>(join(out, "events.ndjson"));
  const moves = views.filter(({ type, reason }) => type === "view" && reason.startsWith("balance"));
  expect(moves.length).toBeGreaterThan(0);
  expect(moves.every(({ planned }) => planned)).toBe(true);
}, 300_000);

test("scales from one worker to three and down to nobody, each leave planned, and waits; the next worker ends the run", async () => {
  const out = join(place.path, "scaled");
  mkdirSync(out);
  const config = JSON.parse(readFileSync(join(alone, "config.json"), "utf8")) as Record<string, object>;
  const elsewhere = { ...config.place, outDirectory: out };
  writeFileSync(join(out, "config.json"), JSON.stringify({ ...config, runId: "scaled", place: elsewhere }));
  const coordinator = lockstep(["coordinator", out]);
  await until(() => existsSync(join(out, "endpoints.json")));
  const worker = (name: string) => lockstep(["worker", "--join", join(out, "endpoints.json"), "--name", name]);
  const owners = () =>
    new Set(
      linesOf<StepLine>(join(out, "steps.ndjson"))
        .at(-1)
        ?.shards.map(({ by }) => by),
    ).size;
  const views = () => linesOf<Event>(join(out, "events.ndjson")).filter(({ type }) => type === "view");

  const a = worker("a");
  await until(() => owners() === 1);
  // Slow enough that the run does not end before everybody has come and gone.
  const inject = lockstep(["inject", out, "slow", "--worker", "a", "--millis", "60"]);
  expect((await inject.ended).code, inject.err()).toBe(0);
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
  const d = worker("d");
  expect((await coordinator.ended).code, coordinator.err()).toBe(0);
  expect((await d.ended).code).toBe(0);

  // Weights are exported, and hashed, by `up` alone.
  const { stateSha256, lineage } = summaryOf(alone);
  const exact = { stateSha256, lineage, samplesPerEpochExact: true };
  expect(summaryOf(out)).toMatchObject({ ...exact, failuresSurvived: 0, workers: 3 });
  // Nothing was lost: the checkpoint for which the last ones waited is where the next one went on.
  const back = linesOf<Event>(join(out, "events.ndjson")).filter(({ type }) => type === "fallback");
  expect(back).toHaveLength(1);
  expect(back[0]!.toStep).toBe(back[0]!.fromStep);
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
