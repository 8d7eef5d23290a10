import { existsSync, readdirSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { sentenceOf } from "../../shared/errors.ts";
import { addonInUse } from "../../worker/compute/native-addon.ts";
import { openTensorFlow, runtimeLabels } from "../../worker/compute/tensorflow.ts";
import type { Loaded } from "./try-library.ts";

/**
 * Loads TensorFlow as a worker with this environment would, and says on standard output what came of it. A process of its
 * own, since a library that does not fit may end it.
 */
const SEPARATE = "did not self-register";

/** CUDA's libraries that TensorFlow opens by their names, beside it; each with the linker's complaint, or null. */
function cudaLibraries(): Loaded["libraries"] {
  const nvidia = join(dirname(realpathSync(addonInUse())), "nvidia");
  const folders = existsSync(nvidia) ? readdirSync(nvidia).map((name) => join(nvidia, name, "lib")) : [];
  const files = folders.flatMap((folder) =>
    existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [],
  );
  return files.map((file) => ({ file, failure: complaintOf(file) }));
}

/** No library is an add-on of Node, which says so after the system has loaded it. */
function complaintOf(file: string): string | null {
  try {
    process.dlopen({ exports: {} }, file);
    return null;
  } catch (error) {
    const said = sentenceOf(error);
    return said.includes(SEPARATE) ? null : said.split("\n")[0]!;
  }
}

try {
  const { tensorflow = "", device = "cpu" } = runtimeLabels(openTensorFlow());
  const loaded: Loaded = { version: tensorflow, device, libraries: cudaLibraries() };
  process.stdout.write(`${JSON.stringify(loaded)}\n`);
} catch (error) {
  process.stderr.write(`${sentenceOf(error)}\n`);
  process.exitCode = 1;
}
