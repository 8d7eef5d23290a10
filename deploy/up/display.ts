import { createLogUpdate } from "log-update";
import { plainLine, runView } from "./progress-view.ts";
import type { RunStatus } from "./status.ts";

/** How a run is shown to people while it goes on. */
export interface Display {
  /** A sentence that stays. */
  note(text: string): void;
  status(status: RunStatus): void;
  /** Leaves the screen to whoever writes next. */
  end(): void;
}

/** The view on a terminal, rewritten in place, below the notes. */
export class TerminalDisplay implements Display {
  readonly #stream: NodeJS.WriteStream;
  readonly #update: ReturnType<typeof createLogUpdate>;
  #last: RunStatus | null = null;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
    this.#update = createLogUpdate(stream);
  }

  note(text: string): void {
    this.#update.clear();
    this.#stream.write(`${text}\n`);
    if (this.#last !== null) this.status(this.#last);
  }

  status(status: RunStatus): void {
    this.#last = status;
    const { columns = 80, rows = 24 } = this.#stream;
    // The view must fit on the screen, or rewriting it would leave copies behind.
    this.#update(runView(status, { width: columns - 1, rows: Math.max(1, rows - 8) }).join("\n"));
  }

  end(): void {
    this.#update.clear();
    this.#update.done();
    this.#last = null;
  }
}

const PLAIN_MILLIS = 10_000;

/** Sparse lines for logs: one when phase, epoch or the reason to wait changes, else one every ten seconds if something moved. */
export class PlainDisplay implements Display {
  readonly #write: (text: string) => void;
  readonly #now: () => number;
  #shownAt = Number.NEGATIVE_INFINITY;
  #stage = "";
  #line = "";

  /** @param now in milliseconds */
  constructor(write: (text: string) => void, now: () => number = () => performance.now()) {
    this.#write = write;
    this.#now = now;
  }

  note(text: string): void {
    this.#write(`${text}\n`);
  }

  status(status: RunStatus): void {
    const { phase, step, stepsPerEpoch, waiting } = status;
    const stage = `${phase} ${Math.floor(step / Math.max(1, stepsPerEpoch))} ${waiting ?? ""}`;
    const line = plainLine(status);
    const due = this.#now() - this.#shownAt >= PLAIN_MILLIS && line !== this.#line;
    if (stage === this.#stage && !due) return;
    this.#stage = stage;
    this.#line = line;
    this.#shownAt = this.#now();
    this.#write(`${line}\n`);
  }

  end(): void {}
}

export const displayOn = (stream: NodeJS.WriteStream): Display =>
  stream.isTTY ? new TerminalDisplay(stream) : new PlainDisplay((text) => void stream.write(text));
