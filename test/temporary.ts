import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

/** A new folder that is deleted after the tests of a file. */
export function temporary(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), `lockstep-${name}-`));
  folders.push(folder);
  return folder;
}
