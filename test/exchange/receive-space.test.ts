import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ReceiveSpace } from "../../worker/exchange/receive-space.ts";

const PAGE = 65536;

describe("receive space", () => {
  it("never hands out a byte twice, and grows no further than the most that was in use, cut once", () => {
    const actions = fc.array(
      fc.record({ give: fc.boolean(), bytes: fc.integer({ min: 0, max: 4 * PAGE }), which: fc.nat(10) }),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(actions, (list) => {
        const memory = new WebAssembly.Memory({ initial: 1, maximum: 4096, shared: true });
        const space = new ReceiveSpace(memory, PAGE);
        const used: { address: number; bytes: number }[] = [];
        for (const { give, bytes, which } of list) {
          if (give && used.length > 0) {
            const [piece] = used.splice(which % used.length, 1);
            space.give(piece!.address);
          } else {
            const piece = { address: space.take(bytes), bytes };
            expect(piece.address % PAGE).toBe(0);
            expect(piece.address + bytes).toBeLessThanOrEqual(memory.buffer.byteLength);
            for (const other of used) {
              const apart =
                piece.address + Math.max(1, bytes) <= other.address ||
                other.address + Math.max(1, other.bytes) <= piece.address;
              expect(apart).toBe(true);
            }
            used.push(piece);
          }
        }
        // Everything given back is one piece again.
        for (const { address } of used) space.give(address);
        const all = space.bytes;
        expect(space.take(all)).toBe(PAGE);
        expect(space.bytes).toBe(Math.max(PAGE, all));
      }),
    );
  });

  it("does not grow while views of changing sizes come and go", () => {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 4096, shared: true });
    const space = new ReceiveSpace(memory, PAGE);
    let held: number[] = [];
    for (let change = 0; change < 200; change++) {
      held.push(space.take((1 + (change % 7)) * PAGE * 3));
      if (held.length > 3) {
        space.give(held[0]!);
        held = held.slice(1);
      }
    }
    // Four pieces of at most 21 pages are in use at a time; without melting, every size would keep pieces of its own.
    expect(space.bytes / PAGE).toBeLessThan(2 * 4 * 21);
  });

  it("says when the system or the address space has no more", () => {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 4, shared: true });
    const space = new ReceiveSpace(memory, PAGE);
    expect(() => space.take(10 * PAGE)).toThrow(expect.objectContaining({ code: "LS_MEMORY_REFUSED" }));
    expect(space.take(PAGE)).toBe(PAGE);
  });
});
