/**
 * Ctrl-C in two stages: the first one asks for an end in order, the second one ends at once. SIGTERM and SIGHUP count as
 * well, so that a service manager or a closed terminal ends a run with its checkpoint.
 */
export class Interrupts {
  readonly first = new AbortController();
  readonly second = new AbortController();
  readonly #onSignal = () => (this.first.signal.aborted ? this.second : this.first).abort();

  constructor() {
    for (const signal of SIGNALS) process.on(signal, this.#onSignal);
  }

  get any(): boolean {
    return this.first.signal.aborted;
  }

  close(): void {
    for (const signal of SIGNALS) process.off(signal, this.#onSignal);
  }
}

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
