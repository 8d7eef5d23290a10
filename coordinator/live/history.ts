import { readLines } from "../../shared/data/json-lines.ts";
import { type LedgerEntry, tallyOf } from "../../shared/protocol/trailer.ts";
import type { ValidationLine } from "../files/validations-file.ts";
import type { RunEvent } from "../machine/state.ts";

/** A stretch of final steps. */
export interface Point {
  /** The last of its steps, counted from 0. */
  readonly step: number;
  /** When that step became final, in milliseconds since 1970. */
  readonly time: number;
  readonly steps: number;
  readonly images: number;
  readonly correct: number;
  /** Sum over its images of the loss; null where a loss was not finite. */
  readonly loss: number | null;
}

export interface Happening {
  /** Milliseconds since 1970. */
  readonly time: number;
  readonly kind: "view" | "trouble" | "checkpoint" | "other";
  readonly text: string;
}

const MOST_POINTS = 1024;
const MOST_HAPPENINGS = 300;

/**
 * The course of a whole run in bounded memory: when there are too many points, neighbours are joined, so that the stretches
 * grow with the run.
 */
export class RunHistory {
  #points: Point[] = [];
  #stride = 1;
  readonly #happenings: Happening[] = [];
  #validations: ValidationLine[] = [];
  readonly #most: number;

  /** @param most points; an even number */
  constructor(most = MOST_POINTS) {
    this.#most = most;
  }

  get points(): readonly Point[] {
    return this.#points;
  }

  get happenings(): readonly Happening[] {
    return this.#happenings;
  }

  /** Validations, oldest first. */
  get validations(): readonly ValidationLine[] {
    return this.#validations;
  }

  validated(line: ValidationLine): void {
    this.#validations.push(line);
    if (this.#validations.length > this.#most) this.#validations.shift();
  }

  final({ step, shards, loss }: Pick<LedgerEntry, "step" | "loss" | "shards">, time: number): void {
    const { images, correct } = tallyOf(shards);
    const sum = Number.isFinite(loss) ? loss * images : null;
    const point = { step, time, steps: 1, images, correct, loss: sum };
    const last = this.#points.at(-1);
    if (last !== undefined && last.steps < this.#stride) this.#points[this.#points.length - 1] = joined(last, point);
    else this.#points.push(point);
    if (this.#points.length <= this.#most) return;
    this.#stride *= 2;
    const points: Point[] = [];
    for (let at = 0; at < this.#points.length; at += 2) {
      const second = this.#points[at + 1];
      points.push(second === undefined ? this.#points[at]! : joined(this.#points[at]!, second));
    }
    this.#points = points;
  }

  /** Final steps from this one on do not count any more. */
  truncate(steps: number): void {
    this.#points = this.#points.filter((point) => point.step < steps);
    this.#validations = this.#validations.filter(({ step }) => step <= steps);
  }

  happened(time: number, kind: Happening["kind"], text: string): void {
    this.#happenings.push({ time, kind, text });
    if (this.#happenings.length > MOST_HAPPENINGS) this.#happenings.shift();
  }
}

const joined = (a: Point, b: Point): Point => ({
  step: b.step,
  time: b.time,
  steps: a.steps + b.steps,
  images: a.images + b.images,
  correct: a.correct + b.correct,
  loss: a.loss === null || b.loss === null ? null : a.loss + b.loss,
});

/** How an event is shown on the timeline. */
export function kindOf(event: RunEvent): Happening["kind"] {
  switch (event.type) {
    case "view":
      return event.planned ? "view" : "trouble";
    case "worker":
      return event.change === "lost" || event.change === "refused" ? "trouble" : "other";
    case "mismatch":
    case "fallback":
      return "trouble";
    case "checkpoint":
      return event.state === "failed" ? "trouble" : "checkpoint";
    default:
      return "other";
  }
}

/** The newest lines of events.ndjson, as a reign before this one left them. */
export const recentEvents = (file: string) =>
  readLines(file).slice(-MOST_HAPPENINGS) as unknown as (RunEvent & { readonly time: string })[];
