import { existsSync, lstatSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import prettyBytes from "pretty-bytes";
import { type CachePlaces, cachePlaces } from "./places.ts";
import type { SetupDisplay } from "./show.ts";
import { withLock } from "./wait-lock.ts";

const PARTS = ["runtime", "nats", "downloads"];

/** Frees what setup has put into the cache. Data sets cost more to fetch and stay: it says where they are. */
export async function cleanCache(show: SetupDisplay, places: CachePlaces = cachePlaces()): Promise<void> {
  const { cache } = places;
  if (!existsSync(cache)) return show.message(`There is nothing in ${cache}.`);
  const wait = () => show.message("Another process sets the runtime up; waiting for it.");
  const [cpu, gpu] = (["cpu", "gpu"] as const).map((flavour) => cachePlaces(flavour, cache).runtime);
  const alone = (work: () => Promise<number>) => withLock(cpu!, wait, () => withLock(gpu!, wait, work));
  const freed = await alone(async () => {
    let bytes = 0;
    for (const part of PARTS.map((name) => join(cache, name))) {
      bytes += bytesIn(part);
      for (const name of existsSync(part) ? readdirSync(part) : []) {
        // The lock itself goes with its release.
        if (!name.endsWith(".lock")) rmSync(join(part, name), { recursive: true, force: true });
      }
    }
    return bytes;
  });
  for (const part of PARTS) {
    const folder = join(cache, part);
    if (existsSync(folder) && readdirSync(folder).length === 0) rmSync(folder, { recursive: true, force: true });
  }
  show.message(`Freed ${prettyBytes(freed)} in ${cache}.`);
  const data = join(cache, "data");
  if (existsSync(data))
    show.message(`Data sets (${prettyBytes(bytesIn(data))}) stay in ${data}; delete that folder to free them too.`);
}

function bytesIn(path: string): number {
  if (!existsSync(path)) return 0;
  const facts = lstatSync(path);
  if (!facts.isDirectory()) return facts.size;
  return readdirSync(path).reduce((sum, name) => sum + bytesIn(join(path, name)), 0);
}
