import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { lockstep, type Scratch, scratch, until } from "../up/support.ts";

/** Real processes: shards leave a worker that is slow, and the bits do not notice. */
let place: Scratch;
let data: string;
beforeAll(async () => {
  place = scratch();
  data = join(place.path, "data");
  await writeSynthetic(data, { train: 160, test: 20, classes: 4, side: 32, seed: 5 });
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
  const common = [
    "--data",
    data,
    "--model",
    small(place.path),
    "--steps",
    "500",
    "--batch",
    "16",
    "--seed",
    "7",
    "--no-eval",
    "--no-nats",
  ];
  const alone = join(place.path, "alone");
  const quiet = lockstep(["up", "--workers", "1", "--out", alone, ...common]);
  expect((await quiet.ended).code, quiet.err()).toBe(0);

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
  const views = linesOf<{ type: string; planned: boolean; reason: string }>(join(out, "events.ndjson"));
  const moves = views.filter(({ type, reason }) => type === "view" && reason.startsWith("balance"));
  expect(moves.length).toBeGreaterThan(0);
  expect(moves.every(({ planned }) => planned)).toBe(true);
}, 300_000);

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
