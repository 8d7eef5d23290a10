import { resolve } from "node:path";
import { diffRuns } from "../diff/diff.ts";
import type { ExplainOptions } from "../diff/explain.ts";
import { readRun } from "../diff/run-history.ts";
import { diffText } from "../diff/text.ts";
import { builtProgram } from "../up/built.ts";
import { devicesOf } from "../up/devices.ts";
import { Interrupts } from "../up/interrupts.ts";
import type { DiffCommandOptions } from "./diff.ts";

/** `lockstep diff`: 0 where the runs are equal as far as both go, 1 where they part. */
export async function diff(run: string, other: string, options: DiffCommandOptions): Promise<number> {
  const [device] = devicesOf(options.device);
  const [a, b] = [readRun(run), readRun(other)];
  const interrupts = new Interrupts();
  const replay: ExplainOptions = {
    program: builtProgram("worker/replay/replay-main.js"),
    device: device!,
    data: options.data === undefined ? null : resolve(options.data),
    signal: interrupts.first.signal,
    onProgress: ({ name }, step) => progress(`replaying ${name}, step ${step}`),
  };
  try {
    const result = await diffRuns(a, b, options.replay ? replay : null);
    progress("");
    if (options.json) process.stdout.write(`${JSON.stringify({ type: "diff", ...result })}\n`);
    (options.json ? process.stderr : process.stdout).write(`${diffText(a, b, result).join("\n")}\n`);
    return result.first === null && !contradicts(result) ? 0 : 1;
  } catch (error) {
    if (!interrupts.any) throw error;
    process.stderr.write("\nInterrupted.\n");
    return 130;
  } finally {
    interrupts.close();
  }
}

/** Equal steps that left different models. */
const contradicts = ({ equal, steps }: { readonly equal: boolean; readonly steps: { a: number; b: number } }) =>
  !equal && steps.a === steps.b;

/** One line that is rewritten, on a terminal only. */
function progress(text: string): void {
  if (process.stderr.isTTY === true) process.stderr.write(`\r${text}\u001b[K`);
}
