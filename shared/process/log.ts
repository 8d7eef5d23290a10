import { openSync, writeSync } from "node:fs";
import { type Logger, pino } from "pino";

/** Lines that wait for room; beyond them the oldest are dropped. */
const MOST_WAITING = 1000;

/**
 * A structured log, one JSON object a line, written at once. It never ends its process, nor holds it up: on a full disk
 * lines wait until the next one comes, the oldest are dropped at the bound, and the log says how many.
 * @param to a descriptor (2: standard error) or the path of a file to append to
 * @param base fields of every line
 */
export function openLog(to: number | string, base: Readonly<Record<string, unknown>>): Logger {
  return pino({ base }, new PatientLines(typeof to === "number" ? to : openSync(to, "a", 0o644)));
}

/** The same for whoever sits at a terminal: a line is the time of day, what happened and what belongs to it. */
export const openTerminalLog = (write: (line: string) => unknown): Logger =>
  pino({ base: null }, { write: (line: string) => void write(`${sentenceOfLine(line)}\n`) });

function sentenceOfLine(line: string): string {
  const { time, msg, level: _, ...facts } = JSON.parse(line) as Record<string, unknown>;
  const texts = Object.entries(facts)
    .filter(([, value]) => value !== null && value !== "" && typeof value !== "boolean")
    .map(([name, value]) => `${name} ${typeof value === "string" ? value : JSON.stringify(value)}`);
  const when = new Date(Number(time)).toTimeString().slice(0, 8);
  return `${when}  ${String(msg)}${texts.length === 0 ? "" : `: ${texts.join(", ")}`}`;
}

class PatientLines {
  readonly #descriptor: number;
  #waiting: Buffer[] = [];
  #dropped = 0;

  constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  write(line: string): void {
    this.#waiting.push(Buffer.from(line));
    if (this.#waiting.length > MOST_WAITING) {
      // The first one may have been begun.
      this.#waiting.splice(1, 1);
      this.#dropped += 1;
    }
    try {
      this.#flush();
      if (this.#dropped === 0) return;
      this.#waiting.push(Buffer.from(`${JSON.stringify({ dropped: this.#dropped, msg: "lines are missing here" })}\n`));
      this.#dropped = 0;
      this.#flush();
    } catch {
      // No room, or a reader that is behind: the next line tries again.
    }
  }

  #flush(): void {
    for (let head = this.#waiting[0]; head !== undefined; head = this.#waiting[0]) {
      const written = writeSync(this.#descriptor, head);
      if (written === head.length) this.#waiting.shift();
      else this.#waiting[0] = head.subarray(written);
    }
  }
}
