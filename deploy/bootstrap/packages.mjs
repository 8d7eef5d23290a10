// npm packages as package-lock.json wants them.
import { existsSync, readFileSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { Missing } from "./machine.mjs";
import { run } from "./run.mjs";

/** Measured with an empty npm cache. */
export const PACKAGE_MEGABYTES = 240;

/**
 * Whether node_modules holds what the lock file names, by the record that npm writes at the end of an installation:
 * an interrupted one has none, and one made by hand counts as well.
 * @param {string} root
 * @param {{dev: boolean}} options with the packages that only building and testing need
 */
export function packagesAreThere(root, { dev }) {
  const wanted = packagesOf(join(root, "package-lock.json"));
  const installed = packagesOf(join(root, "node_modules", ".package-lock.json"));
  if (installed === null) return false;
  if (wanted === null) return true;
  return Object.entries(wanted).every(([path, entry]) => {
    if (path === "" || (entry.dev && !dev)) return true;
    const found = installed[path];
    // Optional packages are for other platforms, or nobody needs them.
    if (found === undefined) return Boolean(entry.optional || entry.devOptional || entry.peer);
    return found.version === entry.version;
  });
}

function packagesOf(file) {
  if (!existsSync(file)) return null;
  try {
    return JSON.parse(readFileSync(file, "utf8")).packages ?? null;
  } catch {
    return null;
  }
}

/**
 * Installs them, all or none.
 * @throws Missing
 */
export async function installPackages(root) {
  const [command, first] = npm();
  const args = ["ci", "--include=dev", "--no-fund", "--no-audit", "--loglevel=error", "--no-progress"];
  let complaint = null;
  try {
    const { code, output } = await run(command, [...first, ...args], { cwd: root, quiet: true });
    if (code !== 0) complaint = reasonIn(output) ?? `exit code ${code}`;
  } catch (error) {
    if (error.code !== "ENOENT") throw error;
    throw new Missing("npm is not on PATH. Install Node with npm, from nodejs.org for example. [LS_NPM_MISSING]");
  }
  if (complaint === null) return;
  rmSync(join(root, "node_modules"), { recursive: true, force: true });
  throw new Missing(
    `npm could not install the packages: ${complaint}. Check the network and npm's registry setting, then run the command again. [LS_NPM]`,
  );
}

/** The npm that runs this script, else the one on PATH. */
function npm() {
  const script = process.env.npm_execpath;
  if (script !== undefined && /^np[mx]-cli\.[cm]?js$/.test(basename(script)) && existsSync(script)) {
    return [process.execPath, [join(dirname(script), "npm-cli.js")]];
  }
  return ["npm", []];
}

/** npm's own first sentence that is neither its code nor a stack. */
function reasonIn(output) {
  const lines = output
    .split("\n")
    .map((line) => /^npm (?:error|ERR!) (.*)/.exec(line)?.[1]?.trim() ?? "")
    .filter((line) => line !== "" && !/^(errno|syscall|code|at |A complete log)/.test(line));
  return lines[0]?.replace(/\.$/, "") ?? null;
}
