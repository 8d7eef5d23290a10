import { join } from "node:path";
import { faultText } from "../../shared/faults/fault.ts";
import { summaryOf } from "../up/runs.ts";
import { atTheEnd, type Cell, cellText, losesMember, parseCell } from "./cell.ts";
import { DisturbedRun, lastLine, NotSeen } from "./disturbed-run.ts";
import { type Bits, marksOf, type QuietRun } from "./quiet-run.ts";

/** What became of one cell. */
export interface CellResult {
  readonly cell: Cell;
  /** null: all is well. */
  readonly failure: string | null;
  readonly seconds: number;
  /** Members lost and views begun meanwhile. */
  readonly lost: number;
  readonly views: number;
}

export interface PlayOptions {
  readonly workers?: number;
  readonly onResult?: (result: CellResult) => void;
  /** Ends the run at once. */
  readonly signal?: AbortSignal;
}

export interface Played {
  readonly results: readonly CellResult[];
  /** Cells for which the run had no steps left. */
  readonly left: readonly Cell[];
  /** What is wrong with the run as a whole; null: nothing. */
  readonly failure: string | null;
  readonly out: string;
}

/** Steps that a cell of the usual kind needs to strike and heal. */
const ROOM = 40;

/**
 * A real run with these faults in it, one after the other, each when the one before is healed. The run must end by
 * itself with the bits of the undisturbed run, and every step on the way must be the undisturbed run's.
 */
export async function play(
  quiet: QuietRun,
  cells: readonly Cell[],
  out: string,
  { workers = 3, onResult = () => {}, signal }: PlayOptions = {},
): Promise<Played> {
  const run = new DisturbedRun(quiet, out, workers);
  const interrupt = () => void run.abandon().then(() => process.exit(130));
  signal?.addEventListener("abort", interrupt);
  const results: CellResult[] = [];
  const left: Cell[] = [];
  let rest: readonly Cell[] = cells;
  try {
    if (!cells.every(atTheEnd)) await run.healed();
    for (const [index, cell] of cells.entries()) {
      rest = cells.slice(index + 1);
      const room = run.ended === null && (atTheEnd(cell) || run.step <= quiet.steps - ROOM);
      const result = room ? await playCell(run, cell) : null;
      // The run had not enough steps left to show it.
      if (result === null || (result.failure !== null && run.endedWell && index > 0)) {
        left.push(cell);
        continue;
      }
      results.push(result);
      onResult(result);
      // Whatever comes behind it would only tell of this one.
      if (result.failure !== null) throw new NotSeen(result.failure);
    }
    const failure = await verdict(run, quiet);
    for (const [index, result] of results.entries()) {
      if (!atTheEnd(result.cell) || run.strikes(faultText(result.cell.fault), 0) > 0) continue;
      results[index] = { ...result, failure: "it did not strike" };
    }
    return { results, left, out, failure };
  } catch (error) {
    if (!(error instanceof NotSeen)) throw error;
    return { results, left: [...left, ...rest], out, failure: error.message };
  } finally {
    signal?.removeEventListener("abort", interrupt);
    await run.abandon();
  }
}

async function playCell(run: DisturbedRun, cell: Cell): Promise<CellResult> {
  const started = Date.now();
  let failure: string | null = null;
  try {
    await run.inject(cell);
    if (!atTheEnd(cell)) {
      await provoke(run, cell);
      const text = faultText(cell.fault);
      const most = cell.target === "all" ? run.workers : 1;
      await run.until(`${cellText(cell)} strikes`, () => run.strikes(text, started) >= most);
      if (cell.target === "rival") await takeOver(run, cell, started);
      await run.healed();
    }
  } catch (error) {
    if (!(error instanceof NotSeen)) throw error;
    failure = error.message;
  }
  const [lost, views] = [run.lost(started), run.views(started)];
  failure ??= atTheEnd(cell) ? null : implausible(cell, lost);
  return { cell, failure, seconds: (Date.now() - started) / 1000, lost, views };
}

/** A second coordinator rules while the first one stands still; when that wakes, it must see that its time is over. */
async function takeOver(run: DisturbedRun, { fault }: Cell, started: number): Promise<void> {
  const term = () => Math.max(...run.events().map((event) => Number(event.term)));
  const before = term();
  run.startRival();
  await run.until("the second coordinator rules", () => term() > before);
  await run.until("the first one wakes", () => Date.now() > started + fault.millis);
  // `up` starts again what ended: that one takes the run back.
  await run.until("the first one has ended and is back", () => term() > before + 1);
}

/** Moments of a change come only if something changes: the last worker stands still for a while and comes back. */
async function provoke(run: DisturbedRun, { target, fault: { moment } }: Cell): Promise<void> {
  if (moment !== "change" && moment !== "plan" && moment !== "join") return;
  const other = target === "worker-2" && moment !== "join" ? "worker-1" : "worker-2";
  await run.inject(parseCell(`${other}/freeze:${PROVOCATION}`));
}

const PROVOCATION = 2500;

/** Were as many members lost as such a fault must and may cost? */
function implausible(cell: Cell, lost: number): string | null {
  const { moment } = cell.fault;
  const provoked = moment === "change" || moment === "plan" || moment === "join" ? 1 : 0;
  const least = provoked + (losesMember(cell) && moment !== "join" && cell.target !== "all" ? 1 : 0);
  return lost >= least ? null : `${lost} lost members, at least ${least} expected`;
}

/** Lets a run end by itself. What is wrong with it; null: it has the bits of the undisturbed one, step by step. */
export async function verdict(run: DisturbedRun, quiet: QuietRun): Promise<string | null> {
  run.hurry();
  const code = await run.end();
  if (code !== 0) return `exit code ${code}: ${lastLine(run.words)}`;
  const lost = run.lost();
  const survived = Number(summaryOf(run.out).failuresSurvived);
  return judgeFiles(run.out, quiet) ?? (survived > lost ? `${survived} failures, ${lost} told` : null);
}

/** The same by the files of a run alone. */
export function judgeFiles(
  out: string,
  quiet: Pick<QuietRun, "marks" | "summary">,
  names: readonly (keyof Bits)[] = ["weightsSha256", "stateSha256", "lineage"],
): string | null {
  for (const mark of marksOf(out)) {
    const expected = quiet.marks[mark.step];
    if (expected === undefined || mark.lineage !== expected.lineage || mark.stateHash !== expected.stateHash)
      return `step ${mark.step} is not the undisturbed run's`;
  }
  const summary = summaryOf(out);
  for (const name of names) {
    if (summary[name] !== quiet.summary[name]) return `${name} is ${String(summary[name])}, not ${quiet.summary[name]}`;
  }
  if (summary.samplesPerEpochExact !== true) return "samplesPerEpochExact is not true";
  return null;
}

export const outOf = (directory: string, name: string): string => join(directory, name.replaceAll(/[/:@]/g, "-"));
