import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { marksOf, type QuietRun } from "../faults/quiet-run.ts";
import { summaryOf, train } from "../up/runs.ts";
import { Network } from "./network.ts";
import { playStory } from "./story.ts";
import { storyText } from "./story-text.ts";

/**
 * A coordinator, three hosts that train and one that attacks, on networks of their own:
 *
 *     npm run hosts [-- --data DIR --model alexnet --steps 160 --batch 96 --cores 0.4 --keep]
 *
 * Trains STL-10 where --data or LOCKSTEP_DATA names it, else a generated set. Needs root, for network namespaces. Exits with
 * 1 where something got in, did harm or changed a bit, or the third host made nothing faster.
 */
const { values } = parseArgs({
  options: {
    data: { type: "string", default: process.env.LOCKSTEP_DATA ?? "" },
    model: { type: "string", default: "alexnet" },
    steps: { type: "string", default: "160" },
    batch: { type: "string", default: "96" },
    cores: { type: "string", default: "0.4" },
    keep: { type: "boolean", default: false },
  },
});
/** The third host must bring that much. */
const LEAST_RISE = 1.15;
const SHARDS = 6;

const interrupted = new AbortController();
const { signal } = interrupted;
for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => interrupted.abort());
const say = (text: string) => process.stdout.write(`${text}\n`);

async function quietRun(
  data: string,
  out: string,
  recipe: readonly string[],
): Promise<Pick<QuietRun, "marks" | "summary">> {
  const run = train(data, out, 1, recipe);
  const end = () => run.signal("SIGKILL");
  signal.addEventListener("abort", end);
  const { code } = await run.ended;
  signal.removeEventListener("abort", end);
  if (code !== 0) throw new Error(`the undisturbed run ended with ${code}: ${run.err()}`);
  return { marks: marksOf(out), summary: summaryOf(out) as unknown as QuietRun["summary"] };
}

async function main(): Promise<number> {
  const hindrance = Network.hindrance();
  if (hindrance !== null) {
    say(`There can be no hosts here, since this system refuses ${hindrance}. Run it as root.`);
    return 3;
  }
  const directory = mkdtempSync(join(tmpdir(), "lockstep-hosts-"));
  let data = values.data;
  if (data === "") {
    data = join(directory, "data");
    await writeSynthetic(data, { train: 1000, test: 20, classes: 10, side: 96, seed: 5 });
    say("STL-10 is not named by --data or LOCKSTEP_DATA: 1,000 generated images stand for it.");
  }
  const { model, steps, batch } = values;
  const recipe = ["--model", model, "--steps", steps, "--batch", batch, "--shards", String(SHARDS), "--seed", "7"];
  say(`First the quiet run: one process on one machine, ${steps} steps of ${batch} images, ${model}.`);
  const quiet = await quietRun(data, join(directory, "quiet"), recipe);
  const cores = Number(values.cores);
  const told = await playStory({
    ...{ directory, data, recipe, batch: Number(batch), calm: 14, quick: false },
    limit: { kind: "cores", cores },
    quiet: Promise.resolve(quiet),
    signal,
    tell: (seconds, text) => say(`${seconds.toFixed(1).padStart(6)} s  ${text}`),
  });
  say(storyText(told, quiet.summary));
  const { before, after } = told.imagesPerSecond;
  const rise = before === null || after === null ? 0 : after / before;
  const failure =
    told.failure ?? (rise < LEAST_RISE ? `the third host made it ${rise.toFixed(2)} times as fast` : null);
  if (failure === null && !values.keep) rmSync(directory, { recursive: true, force: true });
  else say(`files: ${directory}`);
  say(failure === null ? "All held." : `FAILED: ${failure}`);
  return failure === null ? 0 : 1;
}

process.exit(await main());
