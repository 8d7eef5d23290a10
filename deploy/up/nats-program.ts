import { accessSync, constants, existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { cachePlaces } from "../setup/places.ts";

/** Path of nats-server: from PATH, else what setup has fetched; null without either. */
export async function natsProgram(): Promise<string | null> {
  const cached = cachePlaces().natsServer;
  return onPath("nats-server") ?? (existsSync(cached) ? cached : null);
}

/** The first executable of this name on PATH. */
export function onPath(name: string, path: string = process.env.PATH ?? ""): string | null {
  for (const folder of path.split(delimiter)) {
    if (folder === "") continue;
    const file = join(folder, name);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // Not here.
    }
  }
  return null;
}
