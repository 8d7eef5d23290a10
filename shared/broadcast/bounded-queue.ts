/** One message on its way. */
export interface Outgoing {
  readonly subject: string;
  readonly data: Uint8Array;
}

export interface QueueBounds {
  readonly messages: number;
  readonly bytes: number;
}

/** A queue that keeps the newest: at its bounds it drops from the front and counts what it dropped. */
export class BoundedQueue {
  dropped = 0;
  #bytes = 0;
  readonly #bounds: QueueBounds;
  readonly #items: Outgoing[] = [];

  constructor(bounds: QueueBounds) {
    this.#bounds = bounds;
  }

  get length(): number {
    return this.#items.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  push(item: Outgoing): void {
    this.#items.push(item);
    this.#bytes += item.data.length;
    const { messages, bytes } = this.#bounds;
    while (this.#items.length > messages || this.#bytes > bytes) {
      this.#bytes -= this.#items.shift()!.data.length;
      this.dropped += 1;
    }
  }

  /** Takes the oldest items, at most these many and bytes; at least one if there is one. */
  take(most: QueueBounds): Outgoing[] {
    let bytes = 0;
    let count = 0;
    for (const { data } of this.#items) {
      bytes += data.length;
      if (count > 0 && (count >= most.messages || bytes > most.bytes)) break;
      count += 1;
    }
    const taken = this.#items.splice(0, count);
    for (const { data } of taken) this.#bytes -= data.length;
    return taken;
  }
}
