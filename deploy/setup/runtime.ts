import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statfsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { LockstepError } from "../../shared/errors.ts";
import { addonPath, compileAddon, isLinked, LIBRARIES, linkAddon, requireCompiler } from "./addon.ts";
import { download } from "./download.ts";
import {
  type CachePlaces,
  cachePlaces,
  type Flavour,
  type PackagePlaces,
  packagePlaces,
  TENSORFLOW_PACKAGE,
  TENSORFLOW_VERSION,
} from "./places.ts";
import { filesOf } from "./python-index.ts";
import type { SetupDisplay } from "./show.ts";
import { withLock } from "./wait-lock.ts";
import { linuxWheel, unpackWheel } from "./wheel.ts";

/**
 * TensorFlow's C library out of its Python wheel, and the add-on of @tensorflow/tfjs-node-gpu compiled against it. Both
 * lie in the user's cache, where other clones find them, and are linked into node_modules.
 */
export interface RuntimeOptions {
  readonly flavour?: Flavour;
  readonly places?: CachePlaces;
  readonly packages?: PackagePlaces;
}

/** The C interface and what its headers include; the rest of the wheel's headers, 280 MB, serves C++ alone. */
const HEADERS =
  /^tensorflow\/(include\/(?:tensorflow\/c|tensorflow\/core\/platform\/ctstring|tsl\/platform\/ctstring|xla\/tsl\/c)[^.]*\.h)$/;
const UNPACKED_BYTES = 870e6;
/** Where the index does not tell a size. */
const USUAL_BYTES = 274e6;

/**
 * Fetches, unpacks, compiles and links what is missing; a second call finds everything there and needs no network.
 * @throws LockstepError LS_COMPILER, LS_DISK_FULL, LS_INDEX, LS_RUNTIME_MISSING, LS_DOWNLOAD*, LS_WHEEL, LS_ADDON
 */
export async function ensureRuntime(show: SetupDisplay, options: RuntimeOptions = {}): Promise<void> {
  if (runtimeIsReady(options)) return;
  const { flavour, places, packages } = complete(options);
  const { runtime } = places;
  const wait = () => show.message("Another process sets the runtime up; waiting for it.");
  try {
    await withLock(runtime, wait, async (signal) => {
      const addon = addonPath(runtime, packages);
      if (!existsSync(addon)) requireCompiler();
      removeLeftovers(runtime);
      if (!isUnpacked(runtime)) await fetchLibrary(show, flavour, places, signal);
      if (!existsSync(addon)) {
        show.message("Compiling the add-on (about 15 s).");
        await compileAddon(addon, packages, signal);
      }
      linkAddon(addon, packages);
    });
  } catch (error) {
    throw diskFull(error) ?? error;
  }
}

/** Whether the add-on in node_modules is the one that belongs to the cached library. */
export function runtimeIsReady(options: RuntimeOptions = {}): boolean {
  const { places, packages } = complete(options);
  if (!existsSync(join(packages.tfjs, "binding")) || !isUnpacked(places.runtime)) return false;
  const addon = addonPath(places.runtime, packages);
  return existsSync(addon) && isLinked(addon, packages);
}

function complete({ flavour = "cpu", places = cachePlaces(flavour), packages = packagePlaces() }: RuntimeOptions) {
  return { flavour, places, packages };
}

/** A folder gets its name when it is whole, so that one library stands for all. */
const isUnpacked = (runtime: string): boolean => existsSync(join(runtime, "tensorflow", LIBRARIES[0]));

async function fetchLibrary(
  show: SetupDisplay,
  flavour: Flavour,
  { cache, downloads, runtime }: CachePlaces,
  signal: AbortSignal,
): Promise<void> {
  const name = TENSORFLOW_PACKAGE[flavour];
  const wheel = linuxWheel(await filesOf(name), TENSORFLOW_VERSION);
  if (wheel === null) {
    const message = `The Python package index has no ${name} ${TENSORFLOW_VERSION} for Linux x86-64.`;
    throw new LockstepError("LS_RUNTIME_MISSING", message, { hint: "Use another index (PIP_INDEX_URL).", exitCode: 3 });
  }
  const size = wheel.size || USUAL_BYTES;
  const megabytes = Math.round(size / 1e6);
  const seconds = Math.ceil((megabytes * 8) / 50);
  show.message(
    `TensorFlow's library: ${megabytes} MB to fetch, once for all clones (about ${seconds} s at 50 Mbit/s), ${UNPACKED_BYTES / 1e6} MB in ${cache}.`,
  );
  requireRoom(cache, size + UNPACKED_BYTES);
  const file = join(downloads, wheel.filename);
  await download({
    ...wheel,
    file,
    signal,
    onProgress: (done, total) => show.progress("fetching TensorFlow", done, total),
    onWait: () => show.message("Another process fetches TensorFlow; waiting for it."),
  });
  show.message("Unpacking.");
  const temporary = `${runtime}.${process.pid}.partial`;
  await unpackWheel(file, temporary, placeOf, signal);
  if (!isUnpacked(temporary)) {
    rmSync(temporary, { recursive: true, force: true });
    throw new LockstepError("LS_RUNTIME_MISSING", `${wheel.filename} does not hold ${LIBRARIES[0]}.`, {
      hint: "Use another index (PIP_INDEX_URL).",
      exitCode: 3,
    });
  }
  mkdirSync(dirname(runtime), { recursive: true });
  rmSync(runtime, { recursive: true, force: true });
  renameSync(temporary, runtime);
  rmSync(file, { force: true });
}

/** The libraries keep their folder: the GPU's look for CUDA in ../nvidia. */
function placeOf(entry: string): string | null {
  if (LIBRARIES.some((library) => entry === `tensorflow/${library}`)) return entry;
  return HEADERS.exec(entry)?.[1] ?? null;
}

/** What an interruption left, most of a gigabyte each. The caller holds the lock, so that nobody else writes there. */
function removeLeftovers(runtime: string): void {
  const folders = existsSync(runtime) ? [dirname(runtime), runtime] : [dirname(runtime)];
  for (const folder of folders) {
    for (const name of existsSync(folder) ? readdirSync(folder) : []) {
      const ours = folder === runtime ? name.startsWith("addon-") : name.startsWith(basename(runtime));
      if (ours && name.endsWith(".partial")) rmSync(join(folder, name), { recursive: true, force: true });
    }
  }
}

function requireRoom(cache: string, needed: number): void {
  mkdirSync(cache, { recursive: true });
  const { bavail, bsize } = statfsSync(cache);
  if (bavail * bsize >= needed) return;
  const [free, wanted] = [bavail * bsize, needed].map((bytes) => `${Math.round(bytes / 1e6)} MB`);
  throw new LockstepError("LS_DISK_FULL", `${cache} has ${free} left; the library needs ${wanted}.`, {
    hint: "Free some space, or set LOCKSTEP_CACHE to another disk.",
    exitCode: 3,
  });
}

function diskFull(error: unknown): LockstepError | null {
  if ((error as NodeJS.ErrnoException).code !== "ENOSPC") return null;
  return new LockstepError("LS_DISK_FULL", "The disk is full.", {
    hint: "Free about 1.2 GB, or set LOCKSTEP_CACHE to another disk.",
    exitCode: 3,
    cause: error,
  });
}
