import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { FOLDS_FILE, NAMES_FILE, STL10_FILES } from "../../shared/data/stl10.ts";
import { LockstepError } from "../../shared/errors.ts";
import { isComplete } from "../data/fetch.ts";
import { cachedStl10 } from "../data/locations.ts";
import { sha256Of } from "./download.ts";
import { diskFull, requireRoom } from "./library.ts";
import { ensureNatsServer } from "./nats-server.ts";
import { ADDONS, DATA, parseSums, SUMS, type Sums, WHEELS } from "./pack-files.ts";
import { cachePlaces, FLAVOURS, type Flavour, type PackagePlaces } from "./places.ts";
import { ensureRuntime } from "./runtime.ts";
import type { SetupDisplay } from "./show.ts";
import { withLock } from "./wait-lock.ts";
import { FolderSource } from "./wheel-source.ts";
import { NATS_WHEEL, type PinnedWheel, RUNTIME_WHEELS, type RuntimeWheels } from "./wheels.ts";

/** A folder that `setup --pack` has written. Wheels are checked by this version's own list, the rest by the folder's. */
export class Pack {
  readonly directory: string;
  readonly #sums: Sums;

  /** @throws LockstepError LS_PACK where it is none, or not whole */
  constructor(directory: string) {
    this.directory = resolve(directory);
    const list = join(this.directory, SUMS);
    if (!existsSync(list)) {
      throw new LockstepError("LS_PACK", `${this.directory} is no pack, or was not written to its end.`, {
        hint: "Make it on a machine with a network: `npx lockstep setup --pack DIR`.",
        exitCode: 3,
      });
    }
    this.#sums = parseSums(readFileSync(list, "utf8"));
  }

  /** SHA-256 of its list of files, which the machine that wrote it has shown too. */
  sha256(): Promise<string> {
    return sha256Of(join(this.directory, SUMS));
  }

  has(path: string): boolean {
    return this.#sums.has(path);
  }

  /** Whose wheels are all in it. */
  flavours(wheels: Readonly<Record<Flavour, RuntimeWheels>>): Flavour[] {
    const isHere = ({ filename }: PinnedWheel) => this.has(`${WHEELS}/${filename}`);
    return FLAVOURS.filter((flavour) => wheels[flavour].wheels.every(isHere));
  }

  wheels(): FolderSource {
    return new FolderSource(join(this.directory, WHEELS));
  }

  /**
   * Copies a file, which gets its name once its content is that of the list.
   * @throws LockstepError LS_PACK_FILE
   */
  async copy(path: string, to: string): Promise<void> {
    const from = join(this.directory, path);
    const temporary = `${to}.${process.pid}.partial`;
    mkdirSync(dirname(to), { recursive: true });
    try {
      if (existsSync(from)) copyFileSync(from, temporary);
      const found = existsSync(from) ? await sha256Of(temporary) : null;
      if (found === this.#sums.get(path)) return renameSync(temporary, to);
      throw new LockstepError("LS_PACK_FILE", `${from} ${found === null ? "is missing" : "is damaged"}.`, {
        hint: "Copy the folder again, or make it again with `npx lockstep setup --pack DIR`.",
        exitCode: 3,
      });
    } catch (error) {
      throw diskFull(error);
    } finally {
      rmSync(temporary, { force: true });
    }
  }

  /** Bytes of a file that it holds. */
  bytes(path: string): number {
    const file = join(this.directory, path);
    return existsSync(file) ? statSync(file).size : 0;
  }
}

/** Of this machine, for tests. */
export interface FromPackOptions {
  readonly cache?: string;
  readonly packages?: PackagePlaces;
  readonly wheels?: Readonly<Record<Flavour, RuntimeWheels>>;
  readonly nats?: PinnedWheel;
}

/**
 * Sets up from a pack, with no network.
 * @param named flavours to set up; empty: all that it holds
 * @throws LockstepError LS_PACK, LS_PACK_FILE, LS_DISK_FULL, and LS_COMPILER where its add-on is for other sources
 */
export async function setUpFrom(
  show: SetupDisplay,
  pack: Pack,
  named: readonly Flavour[],
  options: FromPackOptions = {},
): Promise<void> {
  const { wheels = RUNTIME_WHEELS, nats = NATS_WHEEL, cache, packages } = options;
  const held = pack.flavours(wheels);
  const lacking = named.filter((flavour) => !held.includes(flavour));
  if (lacking.length > 0 || held.length === 0) {
    const what = (lacking.length > 0 ? lacking : FLAVOURS).join(" or ");
    throw new LockstepError("LS_PACK", `${pack.directory} does not hold this version's runtime for ${what}.`, {
      hint: "Make it with the same version of Lockstep: `npx lockstep setup --pack DIR`, with --gpu for GPUs.",
      exitCode: 3,
    });
  }
  const takeAddon = async (addon: string) => {
    const path = `${ADDONS}/${basename(addon)}`;
    if (!pack.has(path)) return false;
    await pack.copy(path, addon);
    return true;
  };
  for (const flavour of named.length > 0 ? named : held) {
    const places = cachePlaces(flavour, cache);
    const own = { flavour, places, wheels: wheels[flavour], source: pack.wheels(), takeAddon };
    await ensureRuntime(show, packages === undefined ? own : { ...own, packages });
  }
  if (pack.has(`${WHEELS}/${nats.filename}`)) {
    await ensureNatsServer(show, { places: cachePlaces("cpu", cache), wheel: nats, source: pack.wheels() });
  }
  await placeData(show, pack, cachedStl10(cachePlaces("cpu", cache).cache));
}

async function placeData(show: SetupDisplay, pack: Pack, directory: string): Promise<void> {
  const names = [...STL10_FILES.map(({ name }) => name), NAMES_FILE, FOLDS_FILE];
  const held = names.filter((name) => pack.has(`${DATA}/${name}`));
  if (held.length === 0 || (await isComplete(directory))) return;
  show.message(`STL-10's labelled part: ${directory}.`);
  const bytes = held.reduce((sum, name) => sum + pack.bytes(`${DATA}/${name}`), 0);
  requireRoom(dirname(directory), bytes);
  const wait = () => show.message("Another process copies the data set; waiting for it.");
  await withLock(directory, wait, async () => {
    for (const name of held) await pack.copy(`${DATA}/${name}`, join(directory, name));
  });
}
