import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { cachePlaces } from "../setup/places.ts";

/** Path of nats-server: from PATH, else the one that setup has fetched; null without either. */
export function natsProgram(): string | null {
  const fetched = cachePlaces().natsServer;
  return onPath("nats-server") ?? (isExecutable(fetched) ? fetched : null);
}

/** The first executable of this name on PATH. */
export function onPath(name: string, path: string = process.env.PATH ?? ""): string | null {
  for (const folder of path.split(delimiter)) {
    if (folder === "") continue;
    const file = join(folder, name);
    if (isExecutable(file)) return file;
  }
  return null;
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
