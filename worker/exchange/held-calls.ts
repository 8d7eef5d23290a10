import type { Incarnation } from "../../shared/protocol/view.ts";
import type { Sink } from "./outbox.ts";

/** A peer's stream for a view that this member does not know yet. */
interface HeldCall {
  readonly view: string;
  readonly from: Incarnation;
  readonly sink: Sink;
  readonly timer: NodeJS.Timeout;
}

/** Peers learn of a view at slightly different times: whoever calls early is held, bounded in number and time. */
export class HeldCalls {
  private readonly most: number;
  private readonly millis: number;
  private calls: HeldCall[] = [];

  constructor(most: number, millis: number) {
    this.most = most;
    this.millis = millis;
  }

  get size(): number {
    return this.calls.length;
  }

  /** False where there is no room. `expired` is called when the view has not come in time. */
  hold(view: string, from: Incarnation, sink: Sink, expired: () => void): boolean {
    const older = this.calls.find((call) => call.view === view && call.from === from);
    if (older !== undefined) {
      this.drop(older.sink);
      older.sink.end();
    }
    if (this.calls.length >= this.most) return false;
    const timer = setTimeout(() => {
      this.drop(sink);
      expired();
    }, this.millis);
    this.calls.push({ view, from, sink, timer });
    return true;
  }

  drop(sink: Sink): void {
    this.remove((call) => call.sink === sink);
  }

  /** The calls for a view that has become known. */
  take(view: string): readonly { readonly from: Incarnation; readonly sink: Sink }[] {
    return this.remove((call) => call.view === view);
  }

  close(): void {
    this.remove(() => true);
  }

  private remove(match: (call: HeldCall) => boolean): HeldCall[] {
    const removed = this.calls.filter(match);
    this.calls = this.calls.filter((call) => !match(call));
    for (const { timer } of removed) clearTimeout(timer);
    return removed;
  }
}
