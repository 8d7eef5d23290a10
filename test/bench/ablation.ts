import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { decodePredictions, PREDICTIONS_FILE } from "../../worker/evaluation/predictions.ts";
import { type Ablated, ablationTable } from "./ablation/table.ts";
import { type Variant, variantsOf } from "./ablation/variants.ts";

/**
 * What each ingredient of a recipe is worth: short runs with one change each, trained by the cluster on nine tenths of the
 * training images and judged by the tenth that the seed holds out. No run opens the test images.
 *
 *     npm run bench:ablation -- [--recipe fast] [--model M] [--epochs 12] [--seeds 1] [--only colour,cutout] [--out DIR] [--data DIR]
 *
 * Runs that have ended are not made again: interrupted, it goes on with the same command. Another recipe, model, data set or
 * length needs another --out.
 */
const { values } = parseArgs({
  options: {
    recipe: { type: "string", default: "fast" },
    model: { type: "string" },
    epochs: { type: "string", default: "12" },
    seeds: { type: "string", default: "1" },
    only: { type: "string" },
    out: { type: "string" },
    data: { type: "string" },
  },
});
const { recipe, model = null, epochs, data = null } = values;
const out = resolve(
  values.out ?? join("runs", ["ablation", recipe, ...(model === null ? [] : [model]), epochs].join("-")),
);
const { base, variants } = variantsOf(values.recipe, values.model);
const nameOf = ({ name }: Variant) => name.replaceAll(/[^a-z0-9]+/gi, "-");

/** One run; its directory, when it has ended well. */
async function run(variant: Variant, seed: number): Promise<string> {
  const directory = join(out, `${nameOf(variant)}-${seed}`);
  if (outcomeOf(directory) === "done") return directory;
  const begun = existsSync(join(directory, "config.json"));
  const settings = join(out, `${nameOf(variant)}.json`);
  writeFileSync(settings, JSON.stringify({ ...base, ...variant.change, recipe: nameOf(variant) }, null, 2));
  // No map is examined, and the report's pictures stay small.
  const config = join(out, "place.json");
  writeFileSync(config, JSON.stringify({ place: { evaluation: { batch: 100, examined: 0 } } }));
  const from = data === null ? [] : ["--data", data];
  const fresh = [
    "--recipe",
    settings,
    "--config",
    config,
    "--epochs",
    values.epochs,
    "--seed",
    String(seed),
    "--hold-out",
    "0.1",
    ...(model === null ? [] : ["--model", model]),
  ];
  const args = begun ? ["resume", directory] : ["up", "--out", directory, ...fresh];
  const child = spawn(process.execPath, ["deploy/lockstep.mjs", ...args, ...from, "--no-nats"], {
    stdio: ["ignore", process.stderr, "inherit"],
  });
  const code = await new Promise((done) => child.once("exit", done));
  if (code !== 0) throw new Error(`${variant.name}, seed ${seed} ended with code ${code}: see ${directory}`);
  return directory;
}

function readJson(file: string): Record<string, unknown> | null {
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>) : null;
}
const outcomeOf = (directory: string) => readJson(join(directory, "summary.json"))?.outcome;

mkdirSync(out, { recursive: true });
// What was measured with other options is not taken for what is asked now.
const [asked, here] = [{ recipe, model, epochs, data }, join(out, "ablation.json")];
const before = readJson(here) ?? asked;
if (JSON.stringify(before) !== JSON.stringify(asked)) {
  process.stderr.write(`${out} was begun with ${JSON.stringify(before)}; give another --out.\n`);
  process.exit(2);
}
writeFileSync(here, JSON.stringify(asked));
const results: Ablated[] = [];
const chosen = values.only?.split(",");
for (const variant of variants.filter(
  ({ name }, i) => i === 0 || chosen?.some((part) => name.includes(part)) !== false,
)) {
  const directories: string[] = [];
  for (let seed = 1; seed <= Number(values.seeds); seed++) directories.push(await run(variant, seed));
  results.push({
    name: variant.name,
    predictions: directories.map((directory) => {
      const file = join(directory, "report", PREDICTIONS_FILE);
      return decodePredictions(new Uint8Array(readFileSync(file)), file);
    }),
    seconds: directories.reduce(
      (sum, directory) => sum + Number(readJson(join(directory, "summary.json"))?.wallSeconds),
      0,
    ),
  });
  process.stdout.write(`${variant.name}: done\n`);
}
process.stdout.write(
  `\n${values.recipe}, ${values.epochs} epochs, ${values.seeds} seed(s)\n\n${ablationTable(results)}\n`,
);
