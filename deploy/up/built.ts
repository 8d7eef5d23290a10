import { fileURLToPath } from "node:url";
import { WORKER_NODE_OPTIONS } from "../../worker/node-options.ts";

/**
 * Path of a built program, `worker/main.js` for example. Node 20 runs no TypeScript, so that processes always start from
 * dist/, also when the caller runs from its source.
 */
export function builtProgram(path: string): string {
  const root = import.meta.url.endsWith(".ts") ? "../../dist/" : "../../";
  return fileURLToPath(new URL(`${root}${path}`, import.meta.url));
}

/** Program and first arguments of a worker. */
export const workerCommand = (): string[] => [process.execPath, ...WORKER_NODE_OPTIONS, builtProgram("worker/main.js")];
