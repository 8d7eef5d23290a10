import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Network } from "../hosts/network.ts";
import { allCells, atTheEnd, type Cell, cellText, parseCell } from "./cell.ts";
import { NETWORK_CELLS, playNetwork } from "./network-run.ts";
import { type CellResult, outOf, play } from "./play.ts";
import { type QuietRun, quietRun } from "./quiet-run.ts";

/**
 * Every fault at every moment of real runs:
 *
 *     npm run faults -- [--cells worker-1/kill@update,...] [--only TEXT] [--workers 3] [--network] [--keep]
 *
 * and faults of the network between hosts in namespaces (--network: these alone, with
 * --only those whose name has it). Prints one line a cell. A run takes as many cells as it has steps for; a run that fails is played again cell by cell,
 * each in a run of its own. Exits with 1 where a cell fails, after the line that repeats it.
 */
const { values } = parseArgs({
  options: {
    cells: { type: "string" },
    only: { type: "string", default: "" },
    workers: { type: "string", default: "3" },
    network: { type: "boolean", default: false },
    keep: { type: "boolean", default: false },
  },
});

const LONG = 200;
const SINGLE = 100;
const SHORT = 12;

const workers = Number(values.workers);
const directory = mkdtempSync(join(tmpdir(), "lockstep-faults-"));
const say = (text: string) => process.stdout.write(`${text}\n`);
const failed: Cell[] = [];
let runs = 0;
let networkFailed = false;

const quietRuns = new Map<number, Promise<QuietRun>>();
function quietOf(steps: number): Promise<QuietRun> {
  const known = quietRuns.get(steps) ?? quietRun(directory, steps);
  quietRuns.set(steps, known);
  return known;
}

function report({ cell, failure, seconds, lost, views }: CellResult): void {
  say(
    `${failure === null ? "ok    " : "FAILED"} ${cellText(cell).padEnd(34)} ${seconds.toFixed(1).padStart(5)} s  ` +
      `${lost} lost, ${views} views${failure === null ? "" : `  ${failure}`}`,
  );
}

const interrupted = new AbortController();
const { signal } = interrupted;
for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => interrupted.abort());

/** One cell in a run of its own: its end is the cell's verdict. */
async function alone(cell: Cell): Promise<void> {
  const quiet = await quietOf(atTheEnd(cell) ? SHORT : SINGLE);
  const { results, failure, out } = await play(quiet, [cell], outOf(directory, `${++runs}-${cellText(cell)}`), {
    workers,
    signal,
  });
  const [result] = results;
  const wrong = result?.failure ?? failure;
  report({ cell, seconds: 0, lost: 0, views: 0, ...result, failure: wrong });
  if (wrong === null) return tidy(out);
  failed.push(cell);
  say(`       its files: ${out}`);
  say(`       to repeat: npm run faults -- --keep --workers ${workers} --cells ${cellText(cell)}`);
}

/** As many cells as one run has room for; returns those that it had none for. */
async function together(cells: readonly Cell[]): Promise<readonly Cell[]> {
  const { results, left, failure, out } = await play(await quietOf(LONG), cells, outOf(directory, `${++runs}`), {
    workers,
    onResult: report,
    signal,
  });
  const wrong = failure !== null || results.some((result) => result.failure !== null);
  if (!wrong) tidy(out);
  else {
    say(`       the run of these failed (${failure ?? "a cell did"}; ${out}): each of them alone`);
    for (const { cell } of results) await alone(cell);
  }
  return left;
}

/** Faults of the network, in one run. */
async function network(): Promise<void> {
  const hindrance = Network.hindrance();
  if (hindrance !== null) return void say(`skipped: network faults, since this system refuses ${hindrance}`);
  const out = outOf(directory, "network");
  const quiet = await quietOf(LONG);
  const cells = NETWORK_CELLS.filter(({ name }) => name.includes(values.only));
  const failure = await playNetwork(quiet, cells, out, ({ name, skipped, seconds }) =>
    say(`${skipped ? "skipped" : "ok     "} ${name}  ${skipped ? "no such queue here" : `${seconds.toFixed(1)} s`}`),
  );
  if (failure === null) return tidy(out);
  networkFailed = true;
  say(`FAILED  network: ${failure}\n       its files: ${out}; to repeat: npm run faults -- --network --keep`);
}

function tidy(out: string): void {
  if (!values.keep) rmSync(out, { recursive: true, force: true });
}

const chosen = values.network
  ? []
  : (values.cells?.split(",").map(parseCell) ?? allCells().filter((cell) => cellText(cell).includes(values.only)));
const started = Date.now();
if (values.network) await network();
else if (chosen.length === 1) await alone(chosen[0]!);
else {
  let rest: readonly Cell[] = chosen.filter((cell) => !atTheEnd(cell));
  while (rest.length > 0) rest = await together(rest);
  for (const cell of chosen.filter(atTheEnd)) await alone(cell);
  if (values.cells === undefined && values.only === "") await network();
}
say(
  `${chosen.length - failed.length} of ${chosen.length} cells held, ${failed.length} failed, ${Math.round((Date.now() - started) / 1000)} s`,
);
const wrong = failed.length > 0 || networkFailed;
if (!wrong && !values.keep) rmSync(directory, { recursive: true, force: true });
process.exit(wrong ? 1 : 0);
