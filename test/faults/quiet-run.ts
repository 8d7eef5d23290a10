import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { builtProgram } from "../../deploy/up/built.ts";
import { LineTail } from "../../deploy/up/line-tail.ts";
import type { Config } from "../../shared/config/schema.ts";
import { DEFAULT_TIMING } from "../../shared/config/timing.ts";
import { readJson, SMALL_SET, summaryOf, train } from "../up/runs.ts";

/** What one undisturbed worker makes of a recipe: every disturbed run is held against it. */
export interface QuietRun {
  readonly steps: number;
  /** A config file that repeats the run. */
  readonly config: string;
  /** Its data set. */
  readonly data: string;
  readonly model: string;
  readonly summary: Bits;
  /** Lineage and state hash after each step. */
  readonly marks: readonly Mark[];
}

export interface Mark {
  readonly step: number;
  readonly lineage: string;
  readonly stateHash: string;
}

export interface Bits {
  readonly weightsSha256: string;
  readonly stateSha256: string;
  readonly lineage: string;
}

/** Made for these runs: programs/small-model.mjs. */
const MODEL = builtProgram("test/faults/programs/small-model.mjs");

/** Time-outs that let a faulty worker be noticed in seconds; their relations are those of shared/config/timing.ts. */
const TIMING = { ...DEFAULT_TIMING, levelTimeout: 3000, stepBudgetFloor: 4000, grace: 3000, firstStepBudget: 15_000 };
const CHECKPOINT = { everySteps: 5, keep: 2 };

/** 160 images of 32 x 32, 4 steps an epoch; augmentation, dropout, batch norm and moving average are in it. */
export async function quietRun(directory: string, steps: number): Promise<QuietRun> {
  mkdirSync(directory, { recursive: true });
  const data = join(directory, "data");
  if (!existsSync(data)) await writeSynthetic(data, SMALL_SET);
  const out = join(directory, `quiet-${steps}`);
  if (!existsSync(join(out, "summary.json"))) {
    const run = train(data, out, 1, ["--model", MODEL, "--steps", String(steps), "--batch", "40", "--shards", "8"]);
    const { code } = await run.ended;
    if (code !== 0) throw new Error(`the undisturbed run ended with ${code}: ${run.err()}`);
  }
  const config = readJson(out, "config.json") as unknown as Config;
  const file = join(directory, `config-${steps}.json`);
  writeFileSync(
    file,
    JSON.stringify({ ...config, place: { ...config.place, timing: TIMING, checkpoint: CHECKPOINT } }),
  );
  return { steps, config: file, data, model: MODEL, summary: summaryOf(out) as unknown as Bits, marks: marksOf(out) };
}

export const marksOf = (out: string): Mark[] => new LineTail(join(out, "steps.ndjson")).read() as unknown as Mark[];
