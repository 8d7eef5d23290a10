import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { LineTail } from "../../deploy/up/line-tail.ts";
import { type Scratch, scratch } from "../up/support.ts";
import { cellText, parseCell } from "./cell.ts";
import { play } from "./play.ts";
import { quietRun } from "./quiet-run.ts";

/**
 * A sample of the matrix (`npm run faults` has all of it): a real run of three workers with these faults, one after the
 * other, ends by itself with the bits of one undisturbed worker.
 */
const SAMPLE = [
  "worker-1/disconnect@exchange",
  "worker-1/garbage@backward",
  "worker-1/stale-view@update",
  "first/flip-weights@exchange",
  "worker-2/flip-partial@forward",
  "worker-1/flip-reduced@exchange",
  "worker-1/kill@change",
  "coordinator/kill@checkpoint",
];

let place: Scratch;
beforeAll(() => {
  place = scratch();
});
afterAll(() => place[Symbol.dispose]());

test("a sample of faults", async () => {
  const quiet = await quietRun(place.path, 400);
  const played = await play(quiet, SAMPLE.map(parseCell), join(place.path, "run"));
  expect(played.failure, JSON.stringify(played.results)).toBeNull();
  expect(played.left.map(cellText), JSON.stringify(played.results)).toEqual([]);
}, 240_000);

test.each([1, 2])(
  "a bit that flips in the reduced vector of the first of %i is seen before the step commits",
  async (workers) => {
    const quiet = await quietRun(place.path, 60);
    const out = join(place.path, `reduced-${workers}`);
    const played = await play(quiet, [parseCell("first/flip-reduced@exchange")], out, { workers });
    expect(played.failure, JSON.stringify(played.results)).toBeNull();
    const events = new LineTail(join(out, "events.ndjson")).read();
    expect(events.filter(({ detail }) => String(detail).includes("failed its checksum"))).toHaveLength(1);
    // Nothing wrong was ever applied: nobody had to fall back to a checkpoint.
    expect(events.filter(({ type }) => type === "fallback")).toEqual([]);
  },
  120_000,
);
