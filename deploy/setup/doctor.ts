import { execFile } from "node:child_process";
import { existsSync, readFileSync, statfsSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import prettyBytes from "pretty-bytes";
import { openDataset } from "../../shared/data/dataset.ts";
import { sentenceOf } from "../../shared/errors.ts";
import { resolveDataDirectory } from "../data/locations.ts";
import { listGpus } from "../up/devices.ts";
import { natsProgram } from "../up/nats-program.ts";
import { LIBRARIES } from "./addon.ts";
import { cachePlaces, packageRoot } from "./places.ts";
import { runtimeIsReady } from "./runtime.ts";

/** One prerequisite: its state, and how to mend what lacks. */
export interface Finding {
  readonly what: string;
  readonly state: "fine" | "missing" | "optional";
  readonly detail: string;
  readonly mend: string | null;
}

const SETUP = "npx lockstep setup";
const LOAD_MILLIS = 60_000;

/** Looks at everything that a run needs on this machine. */
export async function examine(): Promise<Finding[]> {
  const early = await earlyFindings();
  const runtime = [library(), await addon()];
  return [...early, processor(), ...runtime, nats(), await data(), disk(), machine(), gpu()];
}

/** `optional` lacks do not make a machine unfit. */
export const isHealthy = (findings: readonly Finding[]): boolean => findings.every(({ state }) => state !== "missing");

/**
 * Platform, Node, C library, compiler, npm packages and build, as the bootstrap sees them. It lies outside the built
 * tree: it is what builds it.
 */
async function earlyFindings(): Promise<Finding[]> {
  const file = pathToFileURL(join(packageRoot(), "deploy", "bootstrap.mjs")).href;
  const bootstrap: unknown = await import(file);
  const { earlyFindings: look } = bootstrap as {
    earlyFindings: () => { what: string; fine: boolean; detail: string; mend: string }[];
  };
  const needless = runtimeIsReady() ? "C++ compiler" : null;
  return look().map(({ what, fine, detail, mend }) => finding(what, fine, detail, mend, what === needless));
}

const finding = (what: string, fine: boolean, detail: string, mend: string | null, optional = false): Finding => ({
  what,
  state: fine ? "fine" : optional ? "optional" : "missing",
  detail,
  mend: fine ? null : mend,
});

/** TensorFlow's wheels are compiled for processors with AVX and end in an illegal instruction elsewhere. */
function processor(): Finding {
  const facts = existsSync("/proc/cpuinfo") ? readFileSync("/proc/cpuinfo", "utf8") : "";
  const flags = new Set((/^flags\s*:\s*(.*)$/m.exec(facts)?.[1] ?? "").split(" "));
  const sets = ["avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16"].filter((flag) => flags.has(flag));
  const model = cpus()[0]?.model.trim() ?? "unknown";
  const detail = `${model}${sets.length === 0 ? "" : ` (${sets.join(", ")})`}`;
  return finding("processor", flags.size <= 1 || flags.has("avx"), detail, "use a processor with AVX (2011 or later)");
}

function library(): Finding {
  const { runtime } = cachePlaces();
  const there = existsSync(join(runtime, "tensorflow", LIBRARIES[0]));
  return finding("TensorFlow", there, there ? runtime : `not in ${runtime}`, SETUP);
}

/** Loads the add-on in a process of its own: a library that does not fit may end it. */
async function addon(): Promise<Finding> {
  const program = "const tf=require('@tensorflow/tfjs-node-gpu');console.log(tf.backend().binding.TF_Version)";
  const shim = "require('node:util').isNullOrUndefined??=v=>v==null;";
  try {
    const { stdout } = await promisify(execFile)(process.execPath, ["-e", shim + program], {
      cwd: packageRoot(),
      timeout: LOAD_MILLIS,
    });
    return finding("add-on", true, `TensorFlow ${stdout.trim()} loads`, null);
  } catch (error) {
    if (!runtimeIsReady()) return finding("add-on", false, "not compiled, or not linked into node_modules", SETUP);
    const said = String((error as { stderr?: string }).stderr ?? "").split("\n");
    const reason = said.find((line) => /^\w*Error: /.test(line)) ?? sentenceOf(error).split("\n")[0];
    return finding("add-on", false, `does not load: ${reason}`, `${SETUP} --clean, then ${SETUP}`);
  }
}

function nats(): Finding {
  const program = natsProgram();
  return finding("nats-server", program !== null, program ?? "not found: runs will not broadcast", SETUP, true);
}

async function data(): Promise<Finding> {
  const { directory, source } = await resolveDataDirectory();
  if (source === "archive")
    return finding("data set", false, "STL-10 is not here yet: a run fetches it", "npx lockstep data fetch", true);
  try {
    const dataset = openDataset(directory);
    const text = `${dataset.train.count} training and ${dataset.test.count} test images in ${directory}`;
    dataset.close();
    return finding("data set", true, text, null);
  } catch (error) {
    return finding(
      "data set",
      false,
      sentenceOf(error),
      "npx lockstep data fetch, or give another directory with --data",
    );
  }
}

function disk(): Finding {
  let folder = cachePlaces().cache;
  while (!existsSync(folder)) folder = dirname(folder);
  const { bavail, bsize } = statfsSync(folder);
  const free = bavail * bsize;
  return finding(
    "disk",
    free > 3e9 || runtimeIsReady(),
    `${prettyBytes(free)} free in ${folder}`,
    "free 3 GB, or set LOCKSTEP_CACHE to another disk",
  );
}

const machine = () =>
  finding(
    "machine",
    totalmem() > 2e9,
    `${availableParallelism()} cores, ${prettyBytes(totalmem())} of memory`,
    "2 GB of memory are needed for one worker",
  );

/** Cards and driver, as `--devices all` finds them. */
function gpu(): Finding {
  const found = listGpus();
  if ("reason" in found) return finding("GPU", false, `${found.reason}: training runs on the CPU`, null, true);
  const cards = found.gpus.map(({ index, name }) => `${index}: ${name}`).join(", ");
  const driver = found.gpus[0]?.driver ?? "unknown";
  return finding("GPU", false, `${cards}; driver ${driver}; setup --gpu does not exist yet`, null, true);
}
