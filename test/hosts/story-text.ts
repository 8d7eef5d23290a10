import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { bytesIn } from "../data/fetched-images.ts";
import type { Bits } from "../faults/quiet-run.ts";
import { summaryOf } from "../up/runs.ts";
import type { Told } from "./story.ts";

/** What came of a story, as tables. */
export function storyText(
  { imagesPerSecond, pauses, attacks, refusals, caches, out, failure }: Told,
  quiet: Bits,
): string {
  const figure = (value: number | null, unit: string) => (value === null ? "not seen" : `${Math.round(value)} ${unit}`);
  const { before, after } = imagesPerSecond;
  const rise = before === null || after === null ? "" : ` (${(after / before).toFixed(2)} times)`;
  const lines = [
    `images/s             ${figure(before, "with two hosts")}, ${figure(after, "with three")}${rise}`,
    `pause of the join    ${figure(pauses.join, "ms")}`,
    `pause of the drain   ${figure(pauses.drain, "ms")}`,
    `pause of the cut     ${figure(pauses.cut, "ms")}`,
    ...Object.entries(caches).map(([worker, cache]) => `fetched by ${worker}  ${fetchedText(cache)}`),
    "",
    ...attacks.map(({ name, outcome, held }) => `${held ? "refused" : "GOT IN "}  ${name.padEnd(52)} ${outcome}`),
    "",
    `counted by the coordinator: ${Object.entries(refusals)
      .map(([code, count]) => `${code} ${count}`)
      .join(", ")}`,
  ];
  if (failure !== null) return lines.join("\n");
  const bits = summaryOf(out) as unknown as Bits;
  const names = ["weightsSha256", "stateSha256", "lineage"] as const;
  const same = (name: (typeof names)[number]) => (bits[name] === quiet[name] ? "that of the quiet run" : "ANOTHER");
  return [...lines, "", ...names.map((name) => `${name.padEnd(14)} ${bits[name]}  ${same(name)}`)].join("\n");
}

function fetchedText(cache: string): string {
  const folder = join(cache, "data");
  const [run] = existsSync(folder) ? readdirSync(folder) : [];
  if (run === undefined) return "nothing";
  const { there, all } = bytesIn(join(folder, run, "train_X.bin"));
  return `${(there / 1e6).toFixed(1)} of ${(all / 1e6).toFixed(1)} MB of training images`;
}
