/** One question for another machine's clock; milliseconds, `sent` and `received` on this machine's clock. */
export interface RoundTrip {
  readonly sent: number;
  /** What the other clock showed in between. */
  readonly answered: number;
  readonly received: number;
}

export interface SkewEstimate {
  /** To be added to this machine's milliseconds for the other one's. */
  readonly offsetMillis: number;
  /** The true offset differs by no more than this, whatever each way took. */
  readonly uncertaintyMillis: number;
  readonly roundTrips: number;
}

/** Clocks drift apart: what is older says little about now. */
const NEWEST = 64;

/**
 * How far another machine's clock is ahead, from round trips. Of the newest ones the shortest counts: the answer was given
 * somewhere inside it, so that it bounds the error by half its length (Cristian 1989; NTP filters its samples alike).
 */
export class Skew {
  #trips: RoundTrip[] = [];

  add(trip: RoundTrip): void {
    this.#trips.push(trip);
    if (this.#trips.length > NEWEST) this.#trips.shift();
  }

  /** null before the first answer. */
  estimate(): SkewEstimate | null {
    const length = ({ sent, received }: RoundTrip) => received - sent;
    const [first, ...others] = this.#trips;
    if (first === undefined) return null;
    const best = others.reduce((least, trip) => (length(trip) < length(least) ? trip : least), first);
    return {
      offsetMillis: best.answered - (best.sent + best.received) / 2,
      uncertaintyMillis: length(best) / 2,
      roundTrips: this.#trips.length,
    };
  }
}
