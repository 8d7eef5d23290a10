import { loadavg } from "node:os";
import { fileURLToPath } from "node:url";
import { usage } from "../../shared/config/options.ts";
import { type AllreduceFigures, benchAllreduce } from "../../worker/bench/allreduce.ts";
import { SHARDS } from "../../worker/bench/bench-view.ts";
import type { WireFormat } from "../../worker/exchange/chunk.ts";
import { countOf, shown } from "./bench-text.ts";

export interface BenchAllreduceOptions {
  readonly workers: string;
  readonly sizes: string;
  readonly wire: string;
  readonly tries: string;
  readonly json: boolean;
}

const WIRES: readonly string[] = ["float32", "bf16"] satisfies WireFormat[];

/**
 * Prints a table in Markdown, or one JSON object for each size.
 * @throws LockstepError LS_USAGE, LS_BENCH
 */
export async function benchAllreduceCommand(options: BenchAllreduceOptions): Promise<void> {
  const members = countOf("--workers", options.workers);
  if (members < 2 || members > SHARDS) throw usage(`--workers must be from 2 to ${SHARDS}; it is ${members}.`);
  const sizes = options.sizes.split(",").map(megabytesOf);
  if (!WIRES.includes(options.wire)) throw usage(`--wire must be float32 or bf16; it is "${options.wire}".`);
  const tries = countOf("--tries", options.tries);
  const wire = options.wire as WireFormat;
  const program = fileURLToPath(new URL("../../worker/bench/allreduce-main.js", import.meta.url));
  if (!options.json) process.stdout.write(`${HEADER}\n`);
  for (const megabytes of sizes) {
    const figures = await benchAllreduce(program, { members, megabytes, wire, tries });
    const line = options.json ? JSON.stringify({ ...figures, load: loadavg()[0] }) : row(figures);
    process.stdout.write(`${line}\n`);
  }
  if (options.json) return;
  process.stdout.write(`\nMedians (quartiles) of ${tries} over loopback, load average ${loadavg()[0]!.toFixed(1)}. `);
  process.stdout.write("Bare gRPC: the same bytes without sums, hashes and placing, in turns.\n");
}

const HEADER = [
  "| processes | MB | wire | all-reduce, ms | CPU of all, ms | bare gRPC, ms | CPU | of that limit | in CPU time |",
  "|---:|---:|---|---:|---:|---:|---:|---:|---:|",
].join("\n");

function row(figures: AllreduceFigures): string {
  const { members, megabytes, wire, millis, cpuMillis, bareMillis, bareCpuMillis, ofLimit, ofLimitCpu } = figures;
  const own = [shown(millis, 1), cpuMillis.median.toFixed(1)];
  const limit = [shown(bareMillis, 1), bareCpuMillis.median.toFixed(1), ofLimit.toFixed(2), ofLimitCpu.toFixed(2)];
  return `| ${[members, megabytes, wire, ...own, ...limit].join(" | ")} |`;
}

function megabytesOf(text: string): number {
  const value = Number(text.trim());
  if (text.trim() !== "" && value >= 0.01 && value <= 500) return value;
  throw usage(`--sizes must be megabytes from 0.01 to 500, separated by commas; one is "${text}".`);
}
