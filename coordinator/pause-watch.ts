/** Gaps between final steps that the median is taken of. */
const REMEMBERED = 64;

/** A change of view, as it showed in the pace of the run. */
export interface Pause {
  readonly planned: boolean;
  /** Gap between the final steps around the change, beyond the median gap; at least 0. */
  readonly seconds: number;
}

/** Measures what each change of view costs the run, by the times at which steps became final. Times in milliseconds. */
export class PauseWatch {
  readonly #gaps: number[] = [];
  #last: number | null = null;
  #change: { planned: boolean } | null = null;

  /** A view took effect. Several between two steps are one pause, unplanned if one of them is. */
  view(planned: boolean): void {
    if (this.#last === null) return;
    this.#change = { planned: planned && (this.#change?.planned ?? true) };
  }

  /** A step became final; the pause that ended with it, if it was the first of another view. */
  final(now: number): Pause | null {
    const gap = this.#last === null ? null : now - this.#last;
    const change = this.#change;
    this.#last = now;
    this.#change = null;
    if (gap === null) return null;
    if (change !== null) {
      const median = [...this.#gaps].sort((a, b) => a - b)[this.#gaps.length >> 1] ?? 0;
      return { planned: change.planned, seconds: Math.max(0, gap - median) / 1000 };
    }
    this.#gaps.push(gap);
    if (this.#gaps.length > REMEMBERED) this.#gaps.shift();
    return null;
  }
}
