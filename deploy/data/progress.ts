import prettyBytes from "pretty-bytes";
import type { FetchProgress } from "./fetch.ts";

/** What progress is written to: stderr, where people read. */
export interface Screen {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

const EVERY_MILLIS = { terminal: 200, log: 10_000 } as const;

/**
 * Shows how far a download is: in one line that is rewritten on a terminal, in a line every ten seconds elsewhere.
 * `now` is in milliseconds.
 */
export class FetchDisplay {
  readonly #screen: Screen;
  readonly #now: () => number;
  #started: number | null = null;
  #shown = Number.NEGATIVE_INFINITY;
  #open = false;

  constructor(screen: Screen, now: () => number = () => performance.now()) {
    this.#screen = screen;
    this.#now = now;
  }

  progress({ total, fetched, expected }: FetchProgress): void {
    const now = this.#now();
    this.#started ??= now;
    if (now - this.#shown < EVERY_MILLIS[this.#screen.isTTY ? "terminal" : "log"]) return;
    this.#shown = now;
    this.#show(progressLine(total, fetched, expected, (now - this.#started) / 1000));
  }

  /** A sentence of its own. */
  message(text: string): void {
    this.end();
    this.#screen.write(`${text}\n`);
  }

  /** Leaves the line that was being rewritten. */
  end(): void {
    if (this.#open) this.#screen.write("\n");
    this.#open = false;
  }

  #show(line: string): void {
    this.#screen.write(this.#screen.isTTY ? `\r${line}\u001b[K` : `${line}\n`);
    this.#open = this.#screen.isTTY === true;
  }
}

function progressLine(total: number, fetched: number, expected: number, seconds: number): string {
  const sofar = `${prettyBytes(total)} of about ${prettyBytes(Math.max(expected, total))}`;
  if (fetched === 0) return `reading what is there: ${sofar}`;
  const rate = fetched / Math.max(seconds, 0.001);
  const left = Math.ceil(Math.max(0, expected - total) / rate);
  return `fetching: ${sofar}, ${prettyBytes(rate)}/s, ${left} s left`;
}
