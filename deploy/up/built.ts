import { fileURLToPath } from "node:url";

/**
 * Path of a built program, `worker/main.js` for example. Node 20 runs no TypeScript, so that processes always start from
 * dist/, also when the caller runs from its source.
 */
export function builtProgram(path: string): string {
  const root = import.meta.url.endsWith(".ts") ? "../../dist/" : "../../";
  return fileURLToPath(new URL(`${root}${path}`, import.meta.url));
}
