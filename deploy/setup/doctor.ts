import { existsSync, readFileSync, statfsSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import prettyBytes from "pretty-bytes";
import { openDataset } from "../../shared/data/dataset.ts";
import { sentenceOf } from "../../shared/errors.ts";
import { resolveDataDirectory } from "../data/locations.ts";
import { natsProgram } from "../up/nats-program.ts";
import { gpuFindings } from "./examine-gpu.ts";
import { type Finding, finding } from "./finding.ts";
import { isUnpacked } from "./library.ts";
import { cachePlaces, FLAVOURS, packageRoot } from "./places.ts";
import { runtimeIsReady } from "./runtime.ts";
import { tryLibrary } from "./try-library.ts";

const SETUP = "npx lockstep setup";

/** Looks at everything that a run needs on this machine. */
export async function examine(): Promise<Finding[]> {
  const early = await earlyFindings();
  const runtime = [library(), await addon()];
  return [...early, processor(), ...runtime, nats(), await data(), disk(), machine(), ...(await gpuFindings())];
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
  const needless = isReady() ? "C++ compiler" : null;
  return look().map(({ what, fine, detail, mend }) => finding(what, fine, detail, mend, what === needless));
}

/** TensorFlow's wheels are compiled for processors with AVX and end in an illegal instruction elsewhere. */
function processor(): Finding {
  const facts = existsSync("/proc/cpuinfo") ? readFileSync("/proc/cpuinfo", "utf8") : "";
  const flags = new Set((/^flags\s*:\s*(.*)$/m.exec(facts)?.[1] ?? "").split(" "));
  const sets = ["avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16"].filter((flag) => flags.has(flag));
  const model = cpus()[0]?.model.trim() ?? "unknown";
  const detail = `${model}${sets.length === 0 ? "" : ` (${sets.join(", ")})`}`;
  return finding("processor", flags.size <= 1 || flags.has("avx"), detail, "use a processor with AVX (2011 or later)");
}

/** Either flavour serves, each from its own folder. */
function library(): Finding {
  const folders = FLAVOURS.map((flavour) => cachePlaces(flavour).runtime);
  const here = folders.filter(isUnpacked);
  return finding("TensorFlow", here.length > 0, here.join(", ") || `not in ${folders[0]}`, SETUP);
}

async function addon(): Promise<Finding> {
  const tried = await tryLibrary("cpu");
  if (typeof tried !== "string") return finding("add-on", true, `TensorFlow ${tried.version} loads`, null);
  if (!isReady()) return finding("add-on", false, "not compiled, or not linked into node_modules", SETUP);
  return finding("add-on", false, `does not load: ${tried}`, `${SETUP} --clean, then ${SETUP}`);
}

const isReady = () => FLAVOURS.some((flavour) => runtimeIsReady({ flavour }));

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
    free > 3e9 || isReady(),
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
