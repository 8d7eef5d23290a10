/** Virtual time: a queue of callbacks, run in order of time, ties in order of entry. */
export class VirtualClock {
  now = 0;
  private sequence = 0;
  private readonly heap: { readonly at: number; readonly order: number; readonly run: () => void }[] = [];

  /** Runs `run` after `delay` milliseconds of virtual time. */
  after(delay: number, run: () => void): void {
    const entry = { at: this.now + delay, order: this.sequence++, run };
    this.heap.push(entry);
    let i = this.heap.length - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(this.heap[i]!, this.heap[parent]!)) break;
      [this.heap[i], this.heap[parent]] = [this.heap[parent]!, this.heap[i]!];
      i = parent;
    }
  }

  /** Runs the next callback; false when none is left. */
  next(): boolean {
    const first = this.heap[0];
    if (first === undefined) return false;
    const last = this.heap.pop()!;
    if (this.heap.length > 0) {
      this.heap[0] = last;
      this.sink();
    }
    this.now = first.at;
    first.run();
    return true;
  }

  private sink(): void {
    let i = 0;
    for (;;) {
      const left = 2 * i + 1;
      let least = i;
      if (left < this.heap.length && before(this.heap[left]!, this.heap[least]!)) least = left;
      if (left + 1 < this.heap.length && before(this.heap[left + 1]!, this.heap[least]!)) least = left + 1;
      if (least === i) return;
      [this.heap[i], this.heap[least]] = [this.heap[least]!, this.heap[i]!];
      i = least;
    }
  }
}

const before = (a: { at: number; order: number }, b: { at: number; order: number }) =>
  a.at < b.at || (a.at === b.at && a.order < b.order);

/** Deterministic random numbers for schedules (mulberry32). */
export class Random {
  private state: number;
  constructor(seed: number) {
    this.state = seed >>> 0;
  }
  /** In [0, 1). */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }
  /** Integer in [0, below). */
  below(below: number): number {
    return Math.floor(this.next() * below);
  }
  /** Milliseconds, mostly short, sometimes long. */
  delay(typical: number): number {
    const u = this.next();
    return u < 0.9 ? typical * (0.2 + u) : typical * (1 + 20 * (u - 0.9) * 10 * this.next());
  }
}
