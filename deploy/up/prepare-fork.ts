import { join } from "node:path";
import { checkpointDirectory } from "../../coordinator/checkpoints/checkpoint-files.ts";
import { newestSound } from "../../coordinator/checkpoints/flaw.ts";
import { CheckpointStore } from "../../coordinator/checkpoints/store.ts";
import { foldHistory } from "../../coordinator/records/history.ts";
import type { CheckpointRecord } from "../../coordinator/records/record.ts";
import { readRecords, takeTerm } from "../../coordinator/records/term-files.ts";
import { recipeHash } from "../../shared/config/canonical.ts";
import type { Config } from "../../shared/config/schema.ts";
import { LockstepError } from "../../shared/errors.ts";
import { forkLineage } from "../../shared/model/lineage.ts";
import type { ModelFacts } from "../../shared/protocol/messages.ts";
import type { Tip } from "../../shared/protocol/view.ts";
import { type ConfigDifference, differencesText } from "../diff/config-differences.ts";
import { newRunDirectory, newRunId, type PreparedRun } from "./prepare.ts";

/**
 * Changes of these would give the state another form, or belie what the new run says of its images: a state that was trained
 * on an image cannot be judged by it.
 */
const FORM = /^(model\.(name|sourceSha256|options)|optimizer\.kind$|ema$|data\.|trainingPart)/;

interface ParentRun {
  readonly directory: string;
  readonly config: Config;
}

/**
 * A new run that goes on with another run's state, from the step of its newest sound checkpoint, under a recipe of its own.
 * To everything that follows it is a run whose records begin with that checkpoint.
 * @param config the new run's recipe and place
 * @param changed how its recipe differs from the parent's
 * @throws LockstepError LS_FORK_FORM, LS_FORK_STATE, LS_FORK_END or LS_RUN_EXISTS (exit code 2)
 */
export async function prepareFork(
  parent: ParentRun,
  config: Config,
  changed: readonly ConfigDifference[],
  out: string | undefined,
): Promise<PreparedRun> {
  const form = changed.filter(({ path }) => FORM.test(path));
  if (form.length > 0) {
    const differences = differencesText(form);
    throw refusal("LS_FORK_FORM", `A state of ${parent.config.runId} does not fit this recipe: ${differences}`);
  }
  const { facts, checkpoint } = await stateOf(parent);
  const { tip } = checkpoint;
  if (tip.step >= config.recipe.steps) {
    const length = `the last checkpoint stands at step ${tip.step}, the new run would end at ${config.recipe.steps}`;
    throw refusal("LS_FORK_END", `There is nothing left to train: ${length}. Give more --epochs or --steps`);
  }
  const runId = newRunId(new Date());
  const directory = newRunDirectory(out, runId);
  const forked: Config = {
    ...config,
    runId,
    parent: { run: parent.config.runId, step: tip.step, lineage: tip.lineage },
    place: { ...config.place, outDirectory: directory },
  };
  return {
    directory,
    config: forked,
    notes: [`Forked from run ${parent.config.runId} at step ${tip.step}, lineage ${tip.lineage.slice(0, 16)}.`],
    begin: () => begin(directory, forked, parent, checkpoint, facts),
  };
}

async function stateOf({ directory, config }: ParentRun) {
  const { facts, checkpoints } = foldHistory(readRecords(join(directory, "records")));
  const checkpoint = await newestSound(checkpointDirectory(join(directory, "checkpoints")), checkpoints);
  if (facts !== null && checkpoint !== null) return { facts, checkpoint };
  throw refusal("LS_FORK_STATE", `Run ${config.runId} has no sound checkpoint to begin with`);
}

/** The first records of the new run. Done once more after an interruption it says the same. */
async function begin(
  directory: string,
  { runId, recipe, place }: Config,
  parent: ParentRun,
  { tip, file, bytes }: CheckpointRecord,
  facts: ModelFacts,
): Promise<void> {
  const store = await takeTerm(join(directory, "records"));
  try {
    const checkpoints = new CheckpointStore({
      directory: join(directory, "checkpoints"),
      run: runId,
      keep: place.checkpoint.keep,
      term: store.term,
      recorded: [],
      checkRuling: () => store.checkRuling(),
      warn: () => {},
    });
    const lineage = forkLineage(tip.lineage, tip.step, recipeHash(recipe), recipe.data.sha256, tip.stateHash);
    const root: Tip = { ...tip, lineage };
    const source = checkpointDirectory(join(parent.directory, "checkpoints"));
    // The state image is what follows the header, to the end.
    const image = source.read(file, bytes - facts.stateBytes, bytes);
    const record = await checkpoints.write(root, facts, null, image);
    await store.append([
      { kind: "truncate", tip: root },
      { kind: "checkpoint", ...record },
    ]);
    checkpoints.recorded(record);
  } finally {
    await store.close();
  }
}

const refusal = (code: `LS_${string}`, message: string) =>
  new LockstepError(code, `${message}.`, {
    hint: "See `npx lockstep resume --help`.",
    exitCode: 2,
  });
