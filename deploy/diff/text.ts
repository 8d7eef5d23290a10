import { recipeHash } from "../../shared/config/canonical.ts";
import { figure } from "../up/text.ts";
import type { DiffResult } from "./diff.ts";
import type { RunReplay } from "./explain.ts";
import type { RunHistory } from "./run-history.ts";
import type { TensorDifference } from "./tensors.ts";

/** Entries of a list that people are shown. */
const SHOWN = 6;

/** The comparison for people. */
export function diffText(a: RunHistory, b: RunHistory, result: DiffResult): string[] {
  const { config, data, fingerprint, steps, first, verdict } = result;
  const lines = [runLine("a", a), runLine("b", b)];
  const recipes = config.filter(({ path }) => !path.startsWith("recipe.data."));
  const hash = recipeHash(a.config.recipe).slice(0, 16);
  lines.push(row("recipe", recipes.length === 0 ? "equal" : `${recipes.length} entries differ`));
  for (const { path, a: left, b: right } of recipes.slice(0, SHOWN)) lines.push(row("", `${path}: ${left} / ${right}`));
  if (recipes.length > SHOWN) lines.push(row("", `and ${recipes.length - SHOWN} more`));
  if (config.length === 0) lines[lines.length - 1] += ` (${hash})`;
  lines.push(row("data", pair(data.equal, data.a, data.b)));
  lines.push(row("fingerprint", fingerprint.equal ? "equal" : fingerprintText(fingerprint)));
  if (first === null) return [...lines, ...equalLines(result)];
  const { epoch, kind, shard, shards, workers } = first;
  const what = {
    shards: "the runs have different numbers of shards",
    samples: "other samples were fed",
    gradient: "the same samples gave another gradient",
    update: "all gradients are equal, the state after the update is not",
  }[kind];
  const where = shard === null ? "" : `, shard ${shard}${shards.length > 1 ? ` (and ${shards.length - 1} more)` : ""}`;
  lines.push(row("steps", `${steps.common} equal, then step ${first.step} (epoch ${epoch + 1})${where}: ${what}`));
  if (workers !== null) lines.push(row("", `computed by ${workers.a} / ${workers.b}`));
  const { explanation } = result;
  if (explanation === null || verdict === null) return lines;
  for (const [name, replay] of [
    ["a", explanation.a],
    ["b", explanation.b],
  ] as const) {
    if (replay !== null) lines.push(row(`replay ${name}`, replayText(replay)));
  }
  for (const failure of explanation.failures) lines.push(row("replay", failure));
  if (explanation.layers.length > 0) lines.push(...tensorLines("layers", explanation.layers));
  if (explanation.checkpoint !== null && explanation.checkpoint.tensors.length > 0) {
    lines.push(...tensorLines(`step ${explanation.checkpoint.step}`, explanation.checkpoint.tensors, "checkpoints: "));
  }
  lines.push(row("layer", verdict.layer ?? "not known"), row("cause", verdict.sentence));
  return lines;
}

function equalLines({ steps, hashes, equal, lineageEqual }: DiffResult): string[] {
  const lengths = steps.a === steps.b ? `all ${steps.common} equal` : `the first ${steps.common} equal`;
  const longer =
    steps.a === steps.b ? "" : `; ${steps.a > steps.b ? "a" : "b"} goes on to ${Math.max(steps.a, steps.b)}`;
  const lines = [row("steps", `${lengths}${longer}`)];
  for (const [name, { a, b }] of Object.entries(hashes)) {
    if (a !== null && b !== null && steps.a === steps.b) lines.push(row(name, pair(a === b, a, b)));
  }
  if (!lineageEqual) lines.push(row("", "the lineages differ: they contain recipe and data"));
  if (equal) lines.push("The runs are equal.");
  else if (steps.a === steps.b) lines.push("All steps are equal, the exported weights are not.");
  else lines.push("The runs are equal as far as both go.");
  return lines;
}

const row = (name: string, text: string) => `${name.padEnd(12)}${text}`;
const pair = (equal: boolean, a: string, b: string) =>
  equal ? `equal (${a.slice(0, 16)})` : `${a.slice(0, 16)} / ${b.slice(0, 16)}`;

function runLine(name: string, { directory, config, steps, outcome }: RunHistory): string {
  const { model, shards } = config.recipe;
  const state = outcome ?? "not ended";
  return row(name, `${directory}: ${config.runId}, ${model.name}, ${shards} shards, ${steps.length} steps, ${state}`);
}

const fingerprintText = ({ a, b }: { readonly a: readonly string[] | null; readonly b: readonly string[] | null }) =>
  `${a?.join(" ") ?? "none"} / ${b?.join(" ") ?? "none"}`;

function replayText({ from, sameFingerprint, departed, samplesAsRecorded, asRecorded }: RunReplay): string {
  const start = from === 0 ? "from the initial state" : `from the checkpoint of step ${from}`;
  const machine = sameFingerprint ? "" : "; this machine has another fingerprint than the run";
  const way = departed === null ? "" : `, not the recorded state after step ${departed}`;
  const found = !samplesAsRecorded ? "other samples than recorded" : asRecorded ? "as recorded" : "NOT as recorded";
  return `${start}: ${found}${way}${machine}`;
}

function tensorLines(name: string, tensors: readonly TensorDifference[], before = ""): string[] {
  const shown = tensors.slice(0, SHOWN).map(({ name: tensor, differing, size, largest }) => {
    const distance = largest === null ? "" : `, by up to ${figure(largest)}`;
    return `${tensor}: ${differing} of ${size} values${distance}`;
  });
  const more = tensors.length > SHOWN ? [`and ${tensors.length - SHOWN} more tensors`] : [];
  return [...shown, ...more].map((line, i) => row(i === 0 ? name : "", `${i === 0 ? before : ""}${line}`));
}
