// npm packages as package-lock.json wants them.
import { createHash } from "node:crypto";
import { createReadStream, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { Missing } from "./machine.mjs";
import { run, say } from "./run.mjs";

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

/** Names inside a pack; deploy/setup/pack-files.ts has them too, and cannot be read before the packages are there. */
const SUMS = "SHA256SUMS";
const PACKAGES = "packages.tar.gz";

/**
 * The same out of a folder that `setup --pack` has written: checked, unpacked beside their place, moved there.
 * @param {string} root
 * @param {string} pack
 * @throws Missing
 */
export async function unpackPackages(root, pack) {
  const again = "Copy the folder again, or make it again with `npx lockstep setup --pack DIR`.";
  const archive = join(pack, PACKAGES);
  const sums = join(pack, SUMS);
  if (!existsSync(sums)) throw new Missing(`${pack} is no pack, or was not written to its end. ${again} [LS_PACK]`);
  const wanted = readFileSync(sums, "utf8")
    .split("\n")
    .find((line) => line.endsWith(`  ${PACKAGES}`))
    ?.slice(0, 64);
  if (wanted === undefined || !existsSync(archive) || (await sha256Of(archive)) !== wanted) {
    throw new Missing(`${archive} is missing or damaged. ${again} [LS_PACK_FILE]`);
  }
  say("Unpacking npm's packages.");
  const growing = join(root, ".packages.partial");
  rmSync(growing, { recursive: true, force: true });
  mkdirSync(growing, { recursive: true });
  try {
    const { code, output } = await run("tar", ["-xzf", archive, "-C", growing], { quiet: true });
    const complaint = output.trim().split("\n")[0];
    if (code !== 0) throw new Missing(`tar does not unpack ${archive}: ${complaint}. [LS_PACK]`);
    rmSync(join(root, "node_modules"), { recursive: true, force: true });
    renameSync(join(growing, "node_modules"), join(root, "node_modules"));
  } catch (error) {
    if (error.code !== "ENOENT") throw error;
    throw new Missing("tar or gzip is not on PATH. Install them. [LS_PACK]");
  } finally {
    rmSync(growing, { recursive: true, force: true });
  }
  if (packagesAreThere(root, { dev: false })) return;
  throw new Missing(`The packages in ${pack} are not those of this version. Take the checkout of the pack. [LS_PACK]`);
}

async function sha256Of(file) {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(chunk);
  return hash.digest("hex");
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
