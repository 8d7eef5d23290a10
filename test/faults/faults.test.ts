import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
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
  "worker-1/kill@change",
  "coordinator/kill@checkpoint",
];

let place: Scratch;
beforeAll(() => {
  place = scratch();
});
afterAll(() => place[Symbol.dispose]());

test("a sample of faults", async () => {
  const quiet = await quietRun(place.path, 360);
  const played = await play(quiet, SAMPLE.map(parseCell), join(place.path, "run"));
  expect(played.failure, JSON.stringify(played.results)).toBeNull();
  expect(played.left.map(cellText), JSON.stringify(played.results)).toEqual([]);
}, 240_000);
