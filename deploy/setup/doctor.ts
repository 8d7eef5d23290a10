import { execFile } from "node:child_process";
import { existsSync, statfsSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { dirname } from "node:path";
import { promisify } from "node:util";
import prettyBytes from "pretty-bytes";
import { openDataset } from "../../shared/data/dataset.ts";
import { sentenceOf } from "../../shared/errors.ts";
import { resolveDataDirectory } from "../data/locations.ts";
import { natsProgram, onPath } from "../up/nats-program.ts";
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

/** Looks at everything that a run needs on this machine. */
export async function examine(): Promise<Finding[]> {
  return [platform(), node(), compiler(), await addon(), await nats(), await data(), disk(), machine(), await gpu()];
}

const finding = (what: string, fine: boolean, detail: string, mend: string | null, optional = false): Finding => ({
  what,
  state: fine ? "fine" : optional ? "optional" : "missing",
  detail,
  mend: fine ? null : mend,
});

const platform = () =>
  finding(
    "platform",
    process.platform === "linux" && process.arch === "x64",
    `${process.platform} ${process.arch}`,
    "use Linux x86-64",
  );

function node(): Finding {
  const [major, minor] = process.versions.node.split(".").map(Number) as [number, number];
  const fine = (major === 20 && minor >= 18) || major === 22 || major >= 24;
  return finding("Node", fine, process.versions.node, "install Node 20.18 or newer, 22 or 24");
}

function compiler(): Finding {
  const path = onPath("g++");
  return finding(
    "C++ compiler",
    path !== null,
    path ?? "no g++ on PATH",
    "install g++, for example: apt-get install g++",
  );
}

async function addon(): Promise<Finding> {
  if (!runtimeIsReady()) return finding("TensorFlow", false, `not set up in ${cachePlaces().cache}`, SETUP);
  const program = "const tf=require('@tensorflow/tfjs-node-gpu');console.log(tf.backend().binding.TF_Version)";
  const shim = "require('node:util').isNullOrUndefined??=v=>v==null;";
  try {
    const { stdout } = await promisify(execFile)(process.execPath, ["-e", shim + program], {
      cwd: packageRoot(),
      timeout: 60_000,
    });
    return finding("TensorFlow", true, `${stdout.trim()} loads`, null);
  } catch (error) {
    return finding(
      "TensorFlow",
      false,
      `does not load: ${sentenceOf(error).split("\n")[0]}`,
      `${SETUP} --clean, then ${SETUP}`,
    );
  }
}

async function nats(): Promise<Finding> {
  const program = await natsProgram();
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
    free > 3e9,
    `${prettyBytes(free)} free for the cache`,
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

async function gpu(): Promise<Finding> {
  if (onPath("nvidia-smi") === null)
    return finding("GPU", false, "no nvidia-smi: training runs on the CPU", null, true);
  try {
    const { stdout } = await promisify(execFile)(
      "nvidia-smi",
      ["--query-gpu=name,driver_version", "--format=csv,noheader"],
      { timeout: 10_000 },
    );
    return finding("GPU", false, `${stdout.trim().replaceAll("\n", "; ")}; not used by this version`, null, true);
  } catch {
    return finding("GPU", false, "nvidia-smi does not answer", null, true);
  }
}
