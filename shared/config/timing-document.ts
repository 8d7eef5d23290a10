import { DEFAULT_TIMING, TIMING_MEANINGS, TIMING_RELATIONS, type TimingValues } from "./timing.ts";

/** The part of coordinator/README.md that follows from the code: every time-out with its default, and how they relate. */
export function timingDocument(): string {
  const names = Object.keys(DEFAULT_TIMING) as (keyof TimingValues)[];
  const rows = names.map(
    (name) => `| ${name} | ${DEFAULT_TIMING[name].toLocaleString("en")} | ${TIMING_MEANINGS[name]} |`,
  );
  const relations = TIMING_RELATIONS.map(({ larger, times, smaller, why }) => {
    const bound = times === 1 ? smaller : `${times} x ${smaller}`;
    return `| ${larger} | ${bound} | ${why} |`;
  });
  return [
    "| `place.timing` | ms | what it bounds |",
    "|---|---:|---|",
    ...rows,
    "",
    "| at least | as long as | since |",
    "|---|---|---|",
    ...relations,
  ].join("\n");
}
