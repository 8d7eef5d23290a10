import { existsSync, readdirSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { addonPath, compileAddon, isLinked, linkAddon, requireCompiler } from "./addon.ts";
import { diskFull, isUnpacked, placeLibrary } from "./library.ts";
import { type CachePlaces, cachePlaces, type Flavour, type PackagePlaces, packagePlaces } from "./places.ts";
import type { SetupDisplay } from "./show.ts";
import { withLock } from "./wait-lock.ts";
import { IndexSource, type WheelSource } from "./wheel-source.ts";
import { RUNTIME_WHEELS, type RuntimeWheels } from "./wheels.ts";

/**
 * TensorFlow's C library out of its Python wheel, for GPUs with CUDA's out of theirs, and the add-on of
 * @tensorflow/tfjs-node-gpu compiled against it. All lie in the user's cache, where other clones find them, and are linked
 * into node_modules.
 */
export interface RuntimeOptions {
  readonly flavour?: Flavour;
  readonly places?: CachePlaces;
  readonly packages?: PackagePlaces;
  readonly wheels?: RuntimeWheels;
  /** Where the wheels come from; the Python index by default. */
  readonly source?: WheelSource;
  /** Puts an add-on that was compiled elsewhere at this path; false where there is none for it. */
  readonly takeAddon?: (addon: string) => Promise<boolean>;
}

/**
 * Fetches, unpacks, compiles and links what is missing; a second call finds everything there and needs no network.
 * @throws LockstepError LS_COMPILER, LS_DISK_FULL, LS_INDEX, LS_RUNTIME_MISSING, LS_DOWNLOAD*, LS_WHEEL, LS_ADDON, LS_PACK_FILE
 */
export async function ensureRuntime(show: SetupDisplay, options: RuntimeOptions = {}): Promise<void> {
  if (runtimeIsReady(options)) return;
  const { flavour, places, packages, wheels, source } = complete(options);
  const { runtime } = places;
  const wait = () => show.message("Another process sets the runtime up; waiting for it.");
  try {
    await withLock(runtime, wait, async (signal) => {
      const addon = addonPath(runtime, packages);
      if (!existsSync(addon) && options.takeAddon === undefined) requireCompiler();
      removeLeftovers(runtime);
      if (!isUnpacked(runtime)) await placeLibrary(show, wheels, places, source, signal);
      if (!existsSync(addon) && !(await options.takeAddon?.(addon))) {
        show.message("Compiling the add-on (about 15 s).");
        await compileAddon(addon, packages, signal);
      }
      linkAddon(addon, packages, flavour);
    });
  } catch (error) {
    throw diskFull(error);
  }
}

/** Whether the add-on in node_modules is the one that belongs to the cached library. */
export function runtimeIsReady(options: RuntimeOptions = {}): boolean {
  const { flavour, places, packages } = complete(options);
  if (!existsSync(join(packages.tfjs, "binding")) || !isUnpacked(places.runtime)) return false;
  const addon = addonPath(places.runtime, packages);
  return existsSync(addon) && isLinked(addon, packages, flavour);
}

function complete({
  flavour = "cpu",
  places = cachePlaces(flavour),
  packages = packagePlaces(),
  wheels = RUNTIME_WHEELS[flavour],
  source = new IndexSource(places.downloads),
}: RuntimeOptions) {
  return { flavour, places, packages, wheels, source };
}

/** What an interruption left, gigabytes perhaps. The caller holds the lock, so that nobody else writes there. */
function removeLeftovers(runtime: string): void {
  const folders = existsSync(runtime) ? [dirname(runtime), runtime] : [dirname(runtime)];
  for (const folder of folders) {
    for (const name of existsSync(folder) ? readdirSync(folder) : []) {
      const ours = folder === runtime ? name.startsWith("addon-") : name.startsWith(`${basename(runtime)}.`);
      if (ours && name.endsWith(".partial")) rmSync(join(folder, name), { recursive: true, force: true });
    }
  }
}
