import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BoundedQueue } from "../../shared/broadcast/bounded-queue.ts";

const item = (size: number) => ({ subject: "s", data: new Uint8Array(size) });

describe("the queue of outgoing messages", () => {
  it("drops the oldest beyond its count", () => {
    const queue = new BoundedQueue({ messages: 2, bytes: 100 });
    const items = [1, 2, 3].map(item);
    for (const one of items) queue.push(one);
    expect(queue.take({ messages: 9, bytes: 99 })).toEqual(items.slice(1));
    expect(queue.dropped).toBe(1);
  });

  it("drops the oldest beyond its bytes, and a message that is larger than all of it", () => {
    const queue = new BoundedQueue({ messages: 10, bytes: 100 });
    for (const size of [60, 50]) queue.push(item(size));
    expect([queue.length, queue.bytes, queue.dropped]).toEqual([1, 50, 1]);
    queue.push(item(101));
    expect([queue.length, queue.bytes, queue.dropped]).toEqual([0, 0, 3]);
  });

  it("gives out batches within bounds, but at least one message", () => {
    const queue = new BoundedQueue({ messages: 10, bytes: 1000 });
    for (const size of [90, 20, 30, 40]) queue.push(item(size));
    const sizes = () => queue.take({ messages: 2, bytes: 50 }).map(({ data }) => data.length);
    expect([sizes(), sizes(), sizes(), sizes()]).toEqual([[90], [20, 30], [40], []]);
  });

  it("never exceeds its bounds, keeps order, and loses nothing uncounted", () => {
    const bounds = { messages: 5, bytes: 50 };
    const action = fc.oneof(
      fc.record({ push: fc.integer({ min: 0, max: 60 }) }),
      fc.record({ take: fc.integer({ min: 1, max: 4 }) }),
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const queue = new BoundedQueue(bounds);
        const pushed: object[] = [];
        const taken: object[] = [];
        for (const action of actions) {
          if ("push" in action) {
            const one = item(action.push);
            pushed.push(one);
            queue.push(one);
          } else taken.push(...queue.take({ messages: action.take, bytes: 20 }));
          expect(queue.length).toBeLessThanOrEqual(bounds.messages);
          expect(queue.bytes).toBeLessThanOrEqual(bounds.bytes);
          expect(taken.length + queue.dropped + queue.length).toBe(pushed.length);
        }
        const places = taken.map((one) => pushed.indexOf(one));
        expect(places).toEqual([...places].sort((a, b) => a - b));
      }),
    );
  });
});
