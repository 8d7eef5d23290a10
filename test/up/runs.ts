import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Lockstep, lockstep } from "./support.ts";

/** The generated set of small real runs: with batches of 40, 4 steps an epoch. */
export const SMALL_SET = { train: 160, test: 20, classes: 4, side: 32, seed: 5 };

/** `lockstep up` with seed 7, without evaluation and broadcasts, and with more options, of which the last one counts. */
export function train(
  data: string,
  out: string,
  workers: number,
  more: readonly string[],
  env: Record<string, string> = {},
): Lockstep {
  const place = ["--data", data, "--out", out, "--workers", String(workers)];
  return lockstep(["up", ...place, "--seed", "7", "--no-eval", "--no-nats", ...more], env);
}

export type Summary = Readonly<Record<string, unknown>>;

export const readJson = (...path: string[]) => JSON.parse(readFileSync(join(...path), "utf8")) as Summary;

export const summaryOf = (out: string): Summary => readJson(out, "summary.json");

/** What is the same for runs of the same bits. */
export const bitsOf = ({ weightsSha256, stateSha256, lineage }: Summary) => ({ weightsSha256, stateSha256, lineage });

/** The objects of an ndjson text, or of a file of a run that has ended. */
export const parseLines = <Line = Summary>(text: string): Line[] =>
  text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);
export const linesOf = <Line = Summary>(...path: string[]): Line[] => parseLines(readFileSync(join(...path), "utf8"));
