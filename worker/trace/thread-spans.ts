import { machineMillis } from "../../shared/trace/machine-clock.ts";
import type { Span } from "../../shared/trace/part.ts";

/** Spans of a request at most: a micro-batch has four. */
const MOST = 4096;

/** What the compute thread notes of one request, until it hands it to the main thread with the answer. */
export class ThreadSpans {
  #spans: Span[] = [];

  /** Machine milliseconds, for `add`. */
  now(): number {
    return machineMillis();
  }

  /** Something that began at `from` ends now. */
  add(name: string, from: number, step: number, detail: Span["detail"] = {}): void {
    if (this.#spans.length >= MOST) return;
    this.#spans.push({ track: "compute", peer: null, name, from, to: machineMillis(), step, detail });
  }

  take(): readonly Span[] {
    const spans = this.#spans;
    this.#spans = [];
    return spans;
  }
}
