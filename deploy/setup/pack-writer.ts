import { execFile } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";
import prettyBytes from "pretty-bytes";
import { FOLDS_FILE, NAMES_FILE, STL10_FILES } from "../../shared/data/stl10.ts";
import { LockstepError, sentenceOf } from "../../shared/errors.ts";
import { version } from "../../shared/version.ts";
import { writeWhole } from "../../worker/evaluation/whole-file.ts";
import { isComplete } from "../data/fetch.ts";
import { addonPath } from "./addon.ts";
import { sha256Of } from "./download.ts";
import { diskFull, requireRoom } from "./library.ts";
import { ADDONS, CHECKOUT, DATA, formatSums, PACKAGES, readmeOf, SUMS, WHEELS } from "./pack-files.ts";
import { cachePlaces, FLAVOURS, type Flavour, type PackagePlaces, packagePlaces, packageRoot } from "./places.ts";
import { ensureRuntime, runtimeIsReady } from "./runtime.ts";
import type { SetupDisplay } from "./show.ts";
import { withLock } from "./wait-lock.ts";
import { FolderSource, IndexSource } from "./wheel-source.ts";
import { bytesOf, NATS_WHEEL, type PinnedWheel, RUNTIME_WHEELS, type RuntimeWheels } from "./wheels.ts";

/** What is packed, and from where. */
export interface PackOptions {
  readonly flavours: readonly Flavour[];
  /** A directory with STL-10's labelled part, to be packed too. */
  readonly data: string | null;
  readonly root?: string;
  readonly cache?: string;
  readonly packages?: PackagePlaces;
  readonly wheels?: Readonly<Record<Flavour, RuntimeWheels>>;
  readonly nats?: PinnedWheel;
}

/** What a checkout consists of: nothing else that lies there is given away. */
const CHECKOUT_PARTS = [
  ...["coordinator", "worker", "shared", "deploy", "test", "proto", "dist"],
  ...["package.json", "package-lock.json", "tsconfig.json", "vitest.config.ts", "biome.json", ".npmrc", ".gitignore"],
  ...["README.md", "SECURITY.md", "LICENSE"],
];
/** Links into this machine's cache, and what programs have left behind. */
const NOT_PACKED = [
  ...["@tensorflow/tfjs-node-gpu/lib", "@tensorflow/tfjs-node-gpu/deps", ".cache", ".vite*", ".lockstep*"],
].map((path) => `node_modules/${path}`);

/** Of both archives and the add-on, about. */
const OTHER_BYTES = 300e6;

/**
 * Writes a pack, or completes one: wheels that are there are not fetched again. This machine is set up on the way, since
 * the compiled add-on goes along and the other machine needs no compiler.
 * @returns SHA-256 of its list of files, by which a copy is known
 * @throws LockstepError LS_DISK_FULL, LS_PACK, LS_PACK_FILE, and those of ensureRuntime
 */
export async function writePack(show: SetupDisplay, directory: string, options: PackOptions): Promise<string> {
  const wait = () => show.message(`Another process packs into ${directory}; waiting for it.`);
  try {
    // Inside the folder: it may be the top of a memory stick, beside which nobody may write.
    return await withLock(join(directory, SUMS), wait, () => write(show, directory, options));
  } catch (error) {
    throw diskFull(error);
  }
}

async function write(show: SetupDisplay, directory: string, options: PackOptions): Promise<string> {
  const { flavours, data, root = packageRoot(), packages = packagePlaces(root), cache } = options;
  const { wheels = RUNTIME_WHEELS, nats = NATS_WHEEL } = options;
  const wanted = [...flavours.flatMap((flavour) => wheels[flavour].wheels), nats];
  const folder = join(directory, WHEELS);
  const index = new IndexSource(folder, true);
  if (data !== null && !(await isComplete(data))) {
    throw new LockstepError("LS_PACK", `${data} is not STL-10, which --with-data packs.`, {
      hint: "Copy your own data set yourself; --data DIR names it.",
      exitCode: 3,
    });
  }
  rmSync(join(directory, SUMS), { force: true });
  const toFetch = index.toFetch(wanted);
  if (toFetch > 0)
    show.message(`Wheels for the pack: ${prettyBytes(toFetch)} to fetch of ${prettyBytes(bytesOf(wanted))}.`);
  requireRoom(directory, toFetch + OTHER_BYTES + (data === null ? 0 : bytesIn(data)));
  const sums = new Map<string, string>();
  for (const wheel of wanted) {
    const file = await index.obtain(wheel, show);
    sums.set(`${WHEELS}/${wheel.filename}`, await sha256Of(await checked(folder, wheel, file)));
  }

  // One add-on serves both flavours: it knows the library by its C interface alone.
  const placesOf = (flavour: Flavour) => cachePlaces(flavour, cache);
  const ready = (flavour: Flavour) => runtimeIsReady({ flavour, packages, places: placesOf(flavour) });
  const flavour = FLAVOURS.find(ready) ?? flavours[0]!;
  const runtime = { flavour, packages, places: placesOf(flavour), wheels: wheels[flavour] };
  await ensureRuntime(show, { ...runtime, source: new FolderSource(folder) });
  const addon = addonPath(runtime.places.runtime, packages);
  const put = async (from: string, path: string) => {
    const to = join(directory, path);
    mkdirSync(dirname(to), { recursive: true });
    if (from !== to) copyFileSync(from, `${to}.partial`);
    renameSync(`${to}.partial`, to);
    sums.set(path, await sha256Of(to));
  };
  await put(addon, `${ADDONS}/${basename(addon)}`);

  show.message("Packing the checkout and npm's packages (about a minute).");
  const parts = CHECKOUT_PARTS.filter((name) => existsSync(join(root, name)) && !isPrivate(join(root, name)));
  await pack(
    join(directory, `${CHECKOUT}.partial`),
    root,
    parts,
    ["dist/.growing"],
    ["--transform", "s,^,lockstep/,S"],
  );
  await pack(join(directory, `${PACKAGES}.partial`), root, ["node_modules"], NOT_PACKED);
  for (const archive of [CHECKOUT, PACKAGES]) await put(join(directory, archive), archive);
  const files = data === null ? [] : [...STL10_FILES.map(({ name }) => name), NAMES_FILE, FOLDS_FILE];
  for (const name of files) if (existsSync(join(data!, name))) await put(join(data!, name), `${DATA}/${name}`);

  const runtimes = `TensorFlow for ${flavours.map((name) => name.toUpperCase()).join(" and ")}`;
  const what = [`npm's packages, ${runtimes}, nats-server`, ...(data === null ? [] : ["STL-10's labelled part"])];
  writeWhole(join(directory, "README.txt"), readmeOf(version, what.join(", ")));
  sums.set("README.txt", await sha256Of(join(directory, "README.txt")));
  const list = writeWhole(join(directory, SUMS), formatSums(sums));
  return sha256Of(list);
}

/** npm's settings for this checkout, where somebody has put credentials of a registry or a proxy into them. */
const isPrivate = (file: string): boolean =>
  basename(file) === ".npmrc" && /_auth|_password|:\/\/[^\s/]+@/i.test(readFileSync(file, "utf8"));

/** A file that lay there already may be damaged: it is thrown away, so that the next call fetches it. */
async function checked(folder: string, wheel: PinnedWheel, file: string): Promise<string> {
  try {
    return await new FolderSource(folder).obtain(wheel);
  } catch (error) {
    rmSync(file, { force: true });
    throw error;
  }
}

/** @throws LockstepError LS_PACK, LS_DISK_FULL */
async function pack(
  file: string,
  root: string,
  parts: string[],
  without: string[],
  more: string[] = [],
): Promise<void> {
  const excluded = without.map((path) => `--exclude=${path}`);
  try {
    await promisify(execFile)("tar", ["-czf", file, "-C", root, ...excluded, ...more, ...parts], {
      maxBuffer: 1 << 20,
    });
  } catch (cause) {
    rmSync(file, { force: true });
    const said = String((cause as { stderr?: string }).stderr ?? "").split("\n")[0] || sentenceOf(cause);
    const full = /no space left/i.test(said);
    throw new LockstepError(full ? "LS_DISK_FULL" : "LS_PACK", `tar does not write ${file}: ${said}.`, {
      hint: full ? "Free some space, or pack into another folder." : "GNU tar and gzip must be on PATH.",
      exitCode: 3,
      cause,
    });
  }
}

const bytesIn = (directory: string): number =>
  readdirSync(directory).reduce((sum, name) => {
    const facts = statSync(join(directory, name));
    return sum + (facts.isFile() ? facts.size : 0);
  }, 0);
