import { join } from "node:path";
import { expect, it } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { readJson, summaryOf } from "./runs.ts";
import { lockstep, scratch } from "./support.ts";

it("a run without exchange goes through its steps, learns nothing, says so, and is no run to go on with", async () => {
  using place = scratch();
  const data = join(place.path, "data");
  await writeSynthetic(data, { train: 64, test: 10, classes: 4, side: 32, seed: 3 });
  const out = join(place.path, "run");
  const shape = ["--workers", "2", "--batch", "32", "--steps", "4", "--data", data, "--out", out];
  const run = lockstep(["up", ...shape, "--exchange", "none", "--no-nats", "--json"]);
  const { code } = await run.ended;
  expect(code, run.err()).toBe(0);
  const summary = summaryOf(out);
  expect(summary).toMatchObject({ steps: 4, samplesPerEpochExact: true, reproducible: false, accuracy: null });
  expect(String(summary.reproducibleReason)).toContain("--exchange none");
  expect(readJson(out, "config.json")).toMatchObject({ recipe: { exchange: "none" }, place: { evaluation: null } });
  for (const more of [[], ["--fork", "--steps", "9"]]) {
    const again = lockstep(["resume", out, ...more]);
    expect((await again.ended).code).toBe(2);
    expect(again.err()).toContain("LS_MEASUREMENT");
  }
});
