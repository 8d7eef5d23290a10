// What the machine must have before anything is installed. Node's own modules only.
import { existsSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";

/** A sentence for a person, and exit code 3: the environment lacks something. */
export class Missing extends Error {
  exitCode = 3;
}

/** Oldest Node of each supported line; undici and others ask for 20.18.1. */
const OLDEST = { 20: [18, 1], 22: [0, 0] };
/** The wheels of TensorFlow are built for this C library (manylinux_2_27). */
const OLDEST_GLIBC = [2, 27];

/**
 * The prerequisites that need no package: what, fine, detail, mend, code.
 * @returns {{what: string, fine: boolean, detail: string, mend: string, code: string, complaint: string}[]}
 */
export function machineFindings({
  platform = process.platform,
  arch = process.arch,
  version = process.versions.node,
  path = process.env.PATH ?? "",
  glibc = glibcVersion(),
} = {}) {
  const system = platform === "linux" && arch === "x64";
  const compiler = programOnPath("g++", path);
  const [major, minor, patch] = version.split(".").map((part) => Number.parseInt(part, 10));
  const oldest = OLDEST[major];
  const node = oldest === undefined ? major >= 24 : atLeast([minor, patch], oldest);
  const library = glibc !== null && atLeast(glibc.split(".").map(Number), OLDEST_GLIBC);
  return [
    {
      what: "platform",
      fine: system,
      detail: `${platform} ${arch}`,
      mend: "use Linux x86-64",
      code: "LS_PLATFORM",
      complaint: `Lockstep runs on Linux x86-64; this is ${platform} ${arch}.`,
    },
    {
      what: "Node",
      fine: node,
      detail: version,
      mend: "install Node 20.18.1 or newer, 22 or 24 from nodejs.org",
      code: "LS_NODE",
      complaint: `Lockstep needs Node 20.18.1 or newer, 22 or 24; this is ${version}. Install one from nodejs.org.`,
    },
    {
      what: "C library",
      fine: library,
      detail: glibc === null ? "not glibc" : `glibc ${glibc}`,
      mend: "use a distribution with glibc 2.27 or newer (Debian 10, Ubuntu 18.04, RHEL 8 or later)",
      code: "LS_GLIBC",
      complaint: `TensorFlow's library needs glibc 2.27 or newer; this system has ${glibc === null ? "another C library" : `glibc ${glibc}`}.`,
    },
    {
      what: "C++ compiler",
      fine: compiler !== null,
      detail: compiler ?? "no g++ on PATH",
      mend: "install g++, for example: apt-get install g++",
      code: "LS_COMPILER",
      complaint: "g++ is not on PATH. Install it, for example with `apt-get install g++`.",
    },
  ];
}

/**
 * @param {{compiler?: boolean}} needs whether a compiler is needed: it is not once the add-on is built
 * @throws Missing with the first complaint
 */
export function checkMachine({ compiler = true, ...facts } = {}) {
  const lacking = machineFindings(facts).find(({ fine, code }) => !fine && (compiler || code !== "LS_COMPILER"));
  if (lacking !== undefined) throw new Missing(`${lacking.complaint} [${lacking.code}]`);
}

/** The first executable of this name on PATH, or null. */
export function programOnPath(name, path = process.env.PATH ?? "") {
  for (const folder of path.split(delimiter)) {
    const file = join(folder, name);
    if (folder !== "" && existsSync(file) && (statSync(file).mode & 0o111) !== 0) return file;
  }
  return null;
}

/** The user's cache; the same rule as in deploy/data/locations.ts, which cannot be read before it is built. */
export function cacheFolder(env = process.env) {
  return env.LOCKSTEP_CACHE || join(env.XDG_CACHE_HOME || join(homedir(), ".cache"), "lockstep");
}

/** Version of glibc; null with another C library, musl for example. */
function glibcVersion() {
  if (process.platform !== "linux") return null;
  // Else the report looks up the names of all open connections.
  process.report.excludeNetwork = true;
  return process.report.getReport().header.glibcVersionRuntime ?? null;
}

/** Compares numbers of a version, most significant first. */
function atLeast(version, oldest) {
  for (let i = 0; i < oldest.length; i++) {
    const difference = (version[i] ?? 0) - oldest[i];
    if (difference !== 0) return difference > 0;
  }
  return true;
}
