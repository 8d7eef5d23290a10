import { describe, expect, it } from "vitest";
import { type CommitState, CommitWord, decode, encode } from "../../worker/memory/commit-word.ts";

/** A word whose compare-and-swap first lets the other thread act: every access of one may fall between those of the other. */
class InterleavedCell {
  word = 0n;
  before: () => void = () => {};

  load(): bigint {
    return this.word;
  }

  compareExchange(expected: bigint, next: bigint): bigint {
    this.before();
    const found = this.word;
    if (found === expected) this.word = next;
    return found;
  }
}

/** Replays a tape of choices and counts it up like an odometer until all have been taken. */
function everyTape(run: (choose: (options: number) => number) => void): number {
  let tape: { choice: number; options: number }[] = [];
  for (let runs = 1; ; runs++) {
    let at = 0;
    run((options) => {
      if (at === tape.length) tape.push({ choice: 0, options });
      return tape[at++]!.choice;
    });
    tape = tape.slice(0, at);
    while (tape.length > 0 && tape.at(-1)!.choice === tape.at(-1)!.options - 1) tape.pop();
    const last = tape.at(-1);
    if (last === undefined) return runs;
    last.choice++;
  }
}

/** One worker: its compute thread commits and updates, its main thread closes, answers and re-opens. */
function play(
  choose: (options: number) => number,
  closes: number,
  makeWord = (cell: InterleavedCell) => new CommitWord(cell),
) {
  const cell = new InterleavedCell();
  const word = makeWord(cell);
  const seen = { applied: 0, updating: false, promised: false, commits: [] as string[], answers: [] as number[] };
  let toClose = closes;
  let view = 0;
  let waitsForUpdate = false;
  let endedClosed = false;

  const answer = () => {
    expect(seen.updating).toBe(false);
    seen.answers.push(seen.applied);
    seen.promised = true;
  };
  /** What the main thread does next; null when it has nothing to do. */
  const main = (): (() => void) | null => {
    if (waitsForUpdate) {
      if (!endedClosed) return null;
      return () => {
        [waitsForUpdate, endedClosed] = [false, false];
        answer();
      };
    }
    const { phase } = decode(cell.word);
    if (phase === "closed") {
      return () => {
        view++;
        seen.promised = false;
        expect(word.open(view, seen.applied)).toBe(true);
      };
    }
    if (toClose === 0) return null;
    return () => {
      toClose--;
      if (word.tryClose() === "closed") answer();
      else waitsForUpdate = true;
    };
  };
  /** The compute thread works on the newest view that it was told of, at most two steps in each. */
  const compute = (): (() => void) | null => {
    if (seen.updating) {
      return () => {
        seen.updating = false;
        seen.applied++;
        if (word.finishUpdate(view) === "closed") endedClosed = true;
      };
    }
    const told = view;
    const step = seen.applied;
    if (told === 0 || step >= 2 * told || seen.commits.includes(`${told}.${step} refused`)) return null;
    return () => {
      if (word.tryCommit(told, step)) {
        expect(seen.promised).toBe(false);
        seen.updating = true;
        seen.commits.push(`${told}.${step}`);
      } else seen.commits.push(`${told}.${step} refused`);
    };
  };

  const threads = [main, compute] as const;
  const runOther = (self: number) => {
    cell.before = () => {};
    for (let next = threads[1 - self]!(); next !== null && choose(2) === 1; next = threads[1 - self]!()) next();
    cell.before = () => runOther(self);
  };
  for (;;) {
    const ready = [0, 1].filter((thread) => threads[thread]!() !== null);
    if (ready.length === 0) break;
    const self = ready[choose(ready.length)]!;
    const operation = threads[self]!()!;
    cell.before = () => runOther(self);
    operation();
    cell.before = () => {};
  }
  // The end: nothing half done, every close answered, every step applied once and in order.
  expect(seen.updating).toBe(false);
  expect(waitsForUpdate).toBe(false);
  expect(seen.answers.length).toBe(closes);
  const committed = seen.commits.filter((commit) => !commit.endsWith("refused")).map((commit) => commit.split(".")[1]);
  expect(committed).toEqual(Array.from({ length: seen.applied }, (_, step) => `${step}`));
  expect(decode(cell.word)).toMatchObject({ phase: "open", step: seen.applied });
  return seen;
}

describe("the commit word", () => {
  it("never commits after a close and always ends an update before the answer, in every interleaving", () => {
    const outcomes = new Set<string>();
    const runs = everyTape((choose) => {
      const seen = play(choose, 2);
      outcomes.add(JSON.stringify([seen.commits, seen.answers]));
    });
    expect(runs).toBeGreaterThan(500);
    // Both winners occur: a close before, inside and after the first update.
    const firstAnswers = new Set([...outcomes].map((outcome) => (JSON.parse(outcome) as [string[], number[]])[1][0]));
    expect([...firstAnswers].sort()).toEqual([0, 1, 2]);
    expect([...outcomes].some((outcome) => outcome.includes("refused"))).toBe(true);
  });

  it("is caught by that test when a commit does not compare", () => {
    class Careless extends CommitWord {
      readonly cell: InterleavedCell;
      constructor(cell: InterleavedCell) {
        super(cell);
        this.cell = cell;
      }
      override tryCommit(viewTag: number, step: number): boolean {
        const { phase } = decode(this.cell.load());
        this.cell.before();
        if (phase !== "open") return false;
        this.cell.word = encode({ phase: "committed", viewTag, step });
        return true;
      }
    }
    expect(() => everyTape((choose) => play(choose, 2, (cell) => new Careless(cell)))).toThrow();
  });

  it("starts closed at step 0 in an untouched memory, on real atomics", () => {
    const word = new CommitWord(new BigInt64Array(new SharedArrayBuffer(8)));
    const states: CommitState[] = [word.read()];
    expect(word.tryCommit(1, 0)).toBe(false);
    expect(word.open(1, 0)).toBe(true);
    expect(word.open(2, 0)).toBe(false);
    expect([word.tryCommit(2, 0), word.tryCommit(1, 1), word.tryCommit(1, 0)]).toEqual([false, false, true]);
    states.push(word.read());
    expect(word.finishUpdate(2)).toBe("open");
    states.push(word.read());
    expect(word.tryCommit(2, 1)).toBe(true);
    expect([word.tryClose(), word.tryClose()]).toEqual(["updating", "updating"]);
    states.push(word.read());
    expect(word.open(3, 1)).toBe(false);
    expect(word.finishUpdate(2)).toBe("closed");
    expect(word.tryClose()).toBe("closed");
    states.push(word.read());
    expect(() => word.finishUpdate(2)).toThrow("no step");
    expect(states).toEqual([
      { phase: "closed", viewTag: 0, step: 0 },
      { phase: "committed", viewTag: 1, step: 0 },
      { phase: "open", viewTag: 2, step: 1 },
      { phase: "closing", viewTag: 2, step: 1 },
      { phase: "closed", viewTag: 2, step: 2 },
    ]);
  });

  it("tells whether a compute thread that ended left a whole state", () => {
    const word = new CommitWord(new BigInt64Array(new SharedArrayBuffer(8)));
    word.open(1, 7);
    expect(word.abandon()).toEqual({ whole: true });
    word.open(2, 7);
    word.tryCommit(2, 7);
    expect(word.abandon()).toEqual({ whole: false });
    expect(word.read()).toEqual({ phase: "closed", viewTag: 2, step: 7 });
  });

  it("holds the largest tag and step and refuses larger ones", () => {
    const state: CommitState = { phase: "closing", viewTag: 2 ** 29 - 1, step: 2 ** 32 - 1 };
    expect(decode(encode(state))).toEqual(state);
    expect(() => encode({ ...state, viewTag: 2 ** 29 })).toThrow(RangeError);
    expect(() => encode({ ...state, step: 2 ** 32 })).toThrow(RangeError);
  });
});
