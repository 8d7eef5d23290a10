import fc from "fast-check";
import { LockstepError } from "../../shared/errors.ts";
import type { Decoder } from "./decoders.ts";

/** What came of feeding one decoder. */
export interface Account {
  readonly name: string;
  readonly executions: number;
  /** Of these, inputs that were refused with a coded error. */
  readonly refused: number;
  /** Errors without a code, by their sentences, each with the first input that showed it. */
  readonly findings: readonly { readonly what: string; readonly input: string }[];
}

/** One input may not take longer than this in milliseconds, nor hold that many bytes more than before. */
const LONGEST_MILLIS = 2000;
const MOST_BYTES = 256 << 20;

/** Feeds a decoder with the inputs of a seed until `enough` says so: a crash, a hang or an allocation is a finding. */
export function play(
  { name, inputs, decode }: Decoder,
  seed: number,
  enough: (executions: number) => boolean,
): Account {
  const findings = new Map<string, string>();
  let [executions, refused] = [0, 0];
  while (!enough(executions)) {
    for (const input of fc.sample(inputs, { seed: seed + executions, numRuns: 100 })) {
      const started = performance.now();
      const before = process.memoryUsage.rss();
      try {
        decode(input);
      } catch (error) {
        if (error instanceof LockstepError) refused += 1;
        else note(`${(error as Error).name}: ${(error as Error).message.split("\n")[0]}`);
      }
      executions += 1;
      if (performance.now() - started > LONGEST_MILLIS) note("it took longer than two seconds");
      if (process.memoryUsage.rss() - before > MOST_BYTES) note("it took more than 256 MiB");
      function note(what: string): void {
        const known = what.replaceAll(/\d+|".*"|'.*'/g, "…").slice(0, 160);
        if (!findings.has(known)) findings.set(known, input.toString("base64").slice(0, 400));
      }
    }
  }
  return { name, executions, refused, findings: [...findings].map(([what, input]) => ({ what, input })) };
}
