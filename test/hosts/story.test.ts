import { readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { builtProgram } from "../../deploy/up/built.ts";
import { imagesIn } from "../data/fetched-images.ts";
import { marksOf, type QuietRun } from "../faults/quiet-run.ts";
import { SMALL_SET, summaryOf, train } from "../up/runs.ts";
import { processesOf, type Scratch, scratch } from "../up/support.ts";
import { Network } from "./network.ts";
import { playStory } from "./story.ts";

/** The short form of `npm run hosts`: a small network, slow by sleeping, and only the attacks that are quick. */
const hindrance = Network.hindrance();
const why = hindrance === null ? "" : ` (skipped: this system refuses ${hindrance})`;
const IMAGE = 3 * SMALL_SET.side ** 2;
const MODEL = builtProgram("test/faults/programs/small-model.mjs");
const RECIPE = ["--model", MODEL, "--steps", "120", "--batch", "40", "--shards", "8", "--seed", "7"];

let place: Scratch;
beforeAll(() => {
  place = scratch();
});
afterAll(() => place[Symbol.dispose]());

test.skipIf(hindrance !== null)(
  `three hosts join by a token, one is drained, one loses its link, one attacks, and the bits are those of one quiet process${why}`,
  async () => {
    const [data, out] = [join(place.path, "data"), join(place.path, "quiet")];
    await writeSynthetic(data, SMALL_SET);
    const alone = train(data, out, 1, RECIPE);
    const quiet = alone.ended.then(({ code }) => {
      expect(code, alone.err()).toBe(0);
      return { marks: marksOf(out), summary: summaryOf(out) as unknown as QuietRun["summary"] };
    });
    const said: string[] = [];
    const told = await playStory({
      ...{ directory: place.path, data, recipe: RECIPE, batch: 40, quiet, calm: 2, quick: true },
      limit: { kind: "delay", millis: 100 },
      tell: (_, text) => said.push(text),
    });
    expect(told.failure, said.join("\n")).toBeNull();
    expect(told.attacks.filter(({ held }) => !held)).toEqual([]);
    // And counted, each kind by what it is.
    const kinds = [
      "LS_PLAIN_TEXT",
      "LS_UNKNOWN_AUTHORITY",
      "LS_TOKEN_EXPIRED",
      "LS_NOT_ALLOWED",
      "LS_WRONG_INCARNATION",
    ];
    expect(Object.keys(told.refusals)).toEqual(expect.arrayContaining(kinds));
    expect(summaryOf(told.out)).toMatchObject({ failuresSurvived: 1, samplesPerEpochExact: true });
    for (const cache of Object.values(told.caches)) {
      const folder = join(cache, "data");
      const there = imagesIn(join(folder, readdirSync(folder)[0]!, "train_X.bin"), IMAGE);
      expect(there.length).toBeGreaterThan(0);
    }
    expect(processesOf(place.path)).toEqual([]);
  },
  400_000,
);
