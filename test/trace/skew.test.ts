import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Skew } from "../../shared/trace/skew.ts";

describe("the skew of two clocks", () => {
  it("is taken from the shortest round trip", () => {
    const skew = new Skew();
    expect(skew.estimate()).toBeNull();
    // The other clock is 1,000 ahead; ways of 10 and 30, of 2 and 2, of 50 and 1.
    skew.add({ sent: 100, answered: 1110, received: 140 });
    skew.add({ sent: 200, answered: 1202, received: 204 });
    skew.add({ sent: 300, answered: 1350, received: 351 });
    expect(skew.estimate()).toEqual({ offsetMillis: 1000, uncertaintyMillis: 2, roundTrips: 3 });
  });

  it("is never further from the truth than it says, whatever each way took", () => {
    const trips = fc.array(
      fc.tuple(fc.double({ min: 0, max: 1e3, noNaN: true }), fc.double({ min: 0, max: 1e3, noNaN: true })),
      {
        minLength: 1,
        maxLength: 100,
      },
    );
    fc.assert(
      fc.property(fc.integer({ min: -1e9, max: 1e9 }), trips, (truth, ways) => {
        const skew = new Skew();
        ways.forEach(([there, back], i) => {
          const sent = i * 1000;
          skew.add({ sent, answered: sent + there + truth, received: sent + there + back });
        });
        const { offsetMillis, uncertaintyMillis } = skew.estimate()!;
        expect(Math.abs(offsetMillis - truth)).toBeLessThanOrEqual(uncertaintyMillis + 1e-6);
      }),
    );
  });

  it("forgets what is old, since clocks drift", () => {
    const skew = new Skew();
    skew.add({ sent: 0, answered: 5000, received: 0 });
    for (let i = 1; i <= 64; i++) skew.add({ sent: i, answered: i + 7001, received: i + 2 });
    expect(skew.estimate()).toEqual({ offsetMillis: 7000, uncertaintyMillis: 1, roundTrips: 64 });
  });
});
