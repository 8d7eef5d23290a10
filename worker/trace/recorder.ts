import type { Span } from "../../shared/trace/part.ts";

/** The spans of the newest steps that were begun, the oldest first. What is older is dropped, step by step. */
export class TraceRecorder {
  readonly #newest: number;
  readonly #most: number;
  #steps: Span[][] = [[]];
  #spans = 0;
  /** Begun steps whose spans are gone. */
  droppedSteps = 0;

  /**
   * @param newest steps that are kept
   * @param most spans that are kept
   */
  constructor(newest: number, most: number) {
    this.#newest = newest;
    this.#most = most;
  }

  /** A step begins: what is added from now on is kept for as long as it is among the newest. */
  begin(): void {
    this.#steps.push([]);
    if (this.#steps.length > this.#newest) this.#dropOldest();
  }

  add(span: Span): void {
    this.#steps.at(-1)!.push(span);
    this.#spans += 1;
    while (this.#spans > this.#most && this.#steps.length > 1) this.#dropOldest();
    // A single step without end, as a run that waits for hours has: its newest spans stay.
    if (this.#spans > this.#most) {
      this.#steps[0] = this.#steps[0]!.slice(-Math.ceil(this.#most / 2));
      this.#spans = this.#steps[0].length;
    }
  }

  spans(): Span[] {
    return this.#steps.flat();
  }

  #dropOldest(): void {
    const oldest = this.#steps.shift()!;
    this.#spans -= oldest.length;
    this.droppedSteps += 1;
  }
}
