import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { computeEnvironment } from "../../worker/compute/tensorflow.ts";
import { builtProgram } from "../up/built.ts";

/** What a process that computes on a device finds. */
export interface Loaded {
  readonly version: string;
  /** What TensorFlow would compute on: `gpu` where it uses one, else `cpu`. */
  readonly device: string;
  /** CUDA's libraries beside it, and why one does not load. */
  readonly libraries: readonly { readonly file: string; readonly failure: string | null }[];
}

/** Loading takes a second or two; the first use of a GPU compiles kernels. */
const PATIENCE_MILLIS = 120_000;

/**
 * Loads TensorFlow in a process as it would for a worker on this device.
 * @param device `cpu` or the index of a GPU
 * @returns what it found, or a sentence why it does not load
 */
export async function tryLibrary(device: string): Promise<Loaded | string> {
  const env = { ...process.env, ...computeEnvironment({ device, threads: 1 }) };
  try {
    const program = builtProgram("deploy/setup/load-main.js");
    const { stdout } = await promisify(execFile)(process.execPath, [program], { env, timeout: PATIENCE_MILLIS });
    return JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as Loaded;
  } catch (error) {
    const { signal, stderr } = error as { readonly signal?: NodeJS.Signals | null; readonly stderr?: string };
    const said = (stderr ?? "").trim().split("\n").at(-1);
    const end = signal ? `the process that tried ended with ${signal}` : (error as Error).message.split("\n")[0]!;
    return said === undefined || said === "" || signal ? end : said;
  }
}
