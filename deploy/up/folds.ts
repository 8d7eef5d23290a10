import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { z } from "zod";
import { type RunOptions, usage } from "../../shared/config/options.ts";
import { openDataset } from "../../shared/data/dataset.ts";
import { LockstepError } from "../../shared/errors.ts";
import { writeWhole } from "../../worker/evaluation/whole-file.ts";
import { configDifferences, differencesText } from "../diff/config-differences.ts";
import { newRunId, type PreparedRun, prepareRun, readRunConfig } from "./prepare.ts";
import { prepareResume } from "./prepare-resume.ts";
import { readSummary } from "./runs.ts";
import { percent } from "./text.ts";
import { type UpOptions, up } from "./up.ts";

/** What the folds' runs have reached, as folds.json holds it. */
export interface FoldsResult {
  readonly folds: readonly FoldResult[];
  /** Top-1 on the test images, over the folds. */
  readonly mean: number;
  /** Standard deviation between folds (n - 1); null of a single one. */
  readonly spread: number | null;
}

export interface FoldResult {
  readonly fold: number;
  readonly run: string;
  readonly top1: number;
  readonly weightsSha256: string;
}

const summarySchema = z.object({
  run: z.string(),
  outcome: z.literal("done"),
  accuracy: z.object({ top1: z.number() }),
  weightsSha256: z.string(),
});

/**
 * STL-10's own protocol: a run for each fold of the data set, trained on that fold alone and evaluated on the test images,
 * one after the other in `fold-<k>` below the directory. Runs that have ended stay, one that was interrupted goes on. Gives
 * the exit code of the run that did not end, or 0.
 * @throws LockstepError LS_USAGE, LS_FOLDS where a run has no accuracy or would have another recipe, or what a run throws
 */
export async function upFolds(
  options: RunOptions,
  extras: Parameters<typeof prepareRun>[1],
  here: Omit<UpOptions, "resumed">,
): Promise<number> {
  if (options.fold !== undefined || (options.holdOut ?? 0) > 0 || options.eval === false) {
    throw usage("--folds does not go with --fold, --hold-out or --no-eval.", "It evaluates every fold.");
  }
  if (options.trace !== undefined) throw usage("--folds does not go with --trace.", "Trace one fold with --fold.");
  const directory = resolve(options.out ?? join("runs", newRunId(new Date())));
  const results: FoldResult[] = [];
  for (let fold = 1, folds = 1; fold <= folds; fold++) {
    const out = join(directory, `fold-${fold}`);
    if (resultOf(out, fold) === null && readSummary(out)?.outcome !== "done") {
      const begun = existsSync(join(out, "config.json"));
      const prepare = (signal: AbortSignal): Promise<PreparedRun> =>
        begun
          ? prepareResume(out, {}, false, extras.network)
          : prepareRun({ ...options, holdOut: undefined, fold, out }, extras, signal).then((prepared) =>
              alike(prepared, join(directory, "fold-1")),
            );
      const code = await up(prepare, { ...here, resumed: begun });
      if (code !== 0) return code;
    }
    const result = resultOf(out, fold);
    if (result === null) {
      throw new LockstepError("LS_FOLDS", `The run of fold ${fold} in ${out} has ended without an accuracy.`, {
        hint: "Look at its summary.json and logs; without its directory it is made again.",
      });
    }
    results.push(result);
    folds = foldsOf(out);
  }
  tell(directory, summarizeFolds(results), here.json);
  return 0;
}

/**
 * A mean over different recipes would say nothing. Folds of different sizes have different lengths: these are not compared.
 * @throws LockstepError LS_FOLDS
 */
function alike(prepared: PreparedRun, first: string): PreparedRun {
  if (!existsSync(join(first, "config.json"))) return prepared;
  const { recipe } = readRunConfig(first);
  if (recipe.data.trainImages !== prepared.config.recipe.data.trainImages) return prepared;
  const changed = configDifferences(recipe, prepared.config.recipe).filter(({ path }) => !OF_ONE_FOLD.test(path));
  if (changed.length === 0) return prepared;
  throw new LockstepError(
    "LS_FOLDS",
    `The folds in ${first} and after have another recipe: ${differencesText(changed)}.`,
    {
      hint: "Give the options that they were begun with, or another --out.",
      exitCode: 2,
    },
  );
}

const OF_ONE_FOLD = /^(trainingPart\b|augmentation\.(mean|deviation)\b)/;

/** Pure: mean and spread over folds. */
export function summarizeFolds(folds: readonly FoldResult[]): FoldsResult {
  const mean = folds.reduce((sum, { top1 }) => sum + top1, 0) / folds.length;
  const squares = folds.reduce((sum, { top1 }) => sum + (top1 - mean) ** 2, 0);
  return { folds, mean, spread: folds.length < 2 ? null : Math.sqrt(squares / (folds.length - 1)) };
}

/** Of a run that has ended; null of another. */
function resultOf(out: string, fold: number): FoldResult | null {
  const file = join(out, "summary.json");
  if (!existsSync(file)) return null;
  const parsed = summarySchema.safeParse(JSON.parse(readFileSync(file, "utf8")));
  if (!parsed.success) return null;
  const { run, accuracy, weightsSha256 } = parsed.data;
  return { fold, run, top1: accuracy.top1, weightsSha256 };
}

/** How many folds the data set of a run has. */
function foldsOf(out: string): number {
  const dataset = openDataset(readRunConfig(out).place.dataDirectory);
  dataset.close();
  return dataset.folds.length;
}

function tell(directory: string, result: FoldsResult, json: boolean): void {
  writeWhole(join(directory, "folds.json"), `${JSON.stringify(result, null, 2)}\n`);
  const { folds, mean, spread } = result;
  const each = folds.map(({ top1 }) => percent(top1)).join(", ");
  const between = spread === null ? "" : `, standard deviation between folds ${percent(spread)}`;
  const text = `${folds.length} folds: top 1 ${percent(mean)} on average${between} (${each})\n`;
  (json ? process.stderr : process.stdout).write(text);
  if (json) process.stdout.write(`${JSON.stringify({ type: "folds", directory, ...result })}\n`);
}
