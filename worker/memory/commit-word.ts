/**
 * The commit word: one atomic word between a worker's main thread, which closes it, and its compute thread, which
 * commits. Whoever wins decides whether the step counts.
 *
 *     CLOSED --open--> OPEN(view, s) --tryCommit--> COMMITTED(view, s) --finishUpdate--> OPEN(view', s + 1)
 *                        |                              |
 *                     tryClose                       tryClose
 *                        v                              v
 *                     CLOSED(s)                     CLOSING(view, s) --finishUpdate--> CLOSED(s + 1)
 *
 * Every transition is a compare-and-swap. A committed step's update is always finished, closed or not; a closed word is
 * opened by an installed view alone. `step` counts the steps whose update is in the state, so that it names the next
 * one while no update runs.
 */
export type CommitPhase = "closed" | "open" | "committed" | "closing";

export interface CommitState {
  readonly phase: CommitPhase;
  /** The worker's own number for the view: a small counter that grows with every view it enters. */
  readonly viewTag: number;
  /** open, closed: the next step. committed, closing: the step whose update runs. */
  readonly step: number;
}

const PHASES: readonly CommitPhase[] = ["closed", "open", "committed", "closing"];
const STEP_BITS = 32n;
const TAG_BITS = 29n;
const MOST_TAGS = 2 ** Number(TAG_BITS);
const MOST_STEPS = 2 ** Number(STEP_BITS);

/** The word as it lies in memory: 0, an untouched memory, is CLOSED at step 0. */
export function encode({ phase, viewTag, step }: CommitState): bigint {
  if (!Number.isInteger(viewTag) || viewTag < 0 || viewTag >= MOST_TAGS) throw new RangeError(`view tag ${viewTag}`);
  if (!Number.isInteger(step) || step < 0 || step >= MOST_STEPS) throw new RangeError(`step ${step}`);
  return (BigInt(PHASES.indexOf(phase)) << (STEP_BITS + TAG_BITS)) | (BigInt(viewTag) << STEP_BITS) | BigInt(step);
}

export function decode(word: bigint): CommitState {
  const phase = PHASES[Number(word >> (STEP_BITS + TAG_BITS))];
  if (phase === undefined) throw new RangeError(`commit word ${word}`);
  return { phase, viewTag: Number((word >> STEP_BITS) % BigInt(MOST_TAGS)), step: Number(word % BigInt(MOST_STEPS)) };
}

/** The two atomic accesses that the word needs. */
export interface AtomicCell {
  load(): bigint;
  /** Returns what was there; the exchange happened where that equals `expected`. */
  compareExchange(expected: bigint, next: bigint): bigint;
}

const atomicCell = (words: BigInt64Array): AtomicCell => ({
  load: () => Atomics.load(words, 0),
  compareExchange: (expected, next) => Atomics.compareExchange(words, 0, expected, next),
});

/** A transition: the state that follows, or null where it is not allowed from here. */
type Transition = (state: CommitState) => CommitState | null;

export class CommitWord {
  readonly #cell: AtomicCell;

  constructor(cell: AtomicCell | BigInt64Array) {
    this.#cell = cell instanceof BigInt64Array ? atomicCell(cell) : cell;
  }

  read(): CommitState {
    return decode(this.#cell.load());
  }

  /** Main thread, for an installed view, when no update runs: `step` comes next. False where the word is not closed. */
  open(viewTag: number, step: number): boolean {
    return this.#move(({ phase }) => (phase === "closed" ? { phase: "open", viewTag, step } : null)) !== null;
  }

  /** Compute thread: the step counts from now on. False where it was closed first, or another view or step is open. */
  tryCommit(viewTag: number, step: number): boolean {
    const moved = this.#move((state) =>
      state.phase === "open" && state.viewTag === viewTag && state.step === step
        ? { phase: "committed", viewTag, step }
        : null,
    );
    return moved !== null;
  }

  /**
   * Compute thread, when the update of the committed step is whole. `nextViewTag` is the view of the next step: the same,
   * or a planned one that takes effect now. Returns `closed` where the word was closed meanwhile: the main thread may
   * answer now.
   * @throws Error where no step is committed.
   */
  finishUpdate(nextViewTag: number): "open" | "closed" {
    const moved = this.#move(({ phase, viewTag, step }) => {
      if (phase === "committed") return { phase: "open", viewTag: nextViewTag, step: step + 1 };
      return phase === "closing" ? { phase: "closed", viewTag, step: step + 1 } : null;
    });
    if (moved === null) throw new Error("no step is committed");
    return moved.phase === "open" ? "open" : "closed";
  }

  /** Main thread: nothing is committed any more. `updating`: wait until finishUpdate has returned `closed`. */
  tryClose(): "closed" | "updating" {
    const moved = this.#move((state) => {
      if (state.phase === "open") return { ...state, phase: "closed" };
      return state.phase === "committed" ? { ...state, phase: "closing" } : null;
    });
    return (moved ?? this.read()).phase === "closed" ? "closed" : "updating";
  }

  /**
   * Main thread, after the compute thread has ended: closes the word. `whole` is false where it ended inside an update,
   * which voids the state.
   */
  abandon(): { readonly whole: boolean } {
    const whole = this.tryClose() === "closed";
    if (!whole) this.#move((state) => ({ ...state, phase: "closed" }));
    return { whole };
  }

  #move(transition: Transition): CommitState | null {
    for (;;) {
      const word = this.#cell.load();
      const next = transition(decode(word));
      if (next === null) return null;
      if (this.#cell.compareExchange(word, encode(next)) === word) return next;
    }
  }
}
