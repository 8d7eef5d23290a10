import { beforeEach, expect, it } from "vitest";
import type { Tip } from "../../shared/protocol/view.ts";
import { Snapshots } from "../../worker/snapshots.ts";

const tip = (step: number): Tip => ({ step, lineage: `l${step}`, stateHash: `h${step}` });

let done: string[];
let snapshots: Snapshots;
beforeEach(() => {
  done = [];
  snapshots = new Snapshots(
    ({ step }) => void done.push(`copy ${step}`),
    ({ step }) => void done.push(`say ${step}`),
  );
});

it("is copied after the next update, said when it is whole, and gone when discarded", () => {
  snapshots.reached(tip(4));
  snapshots.want(tip(4), false);
  expect(done).toEqual([]);
  snapshots.reached(tip(5));
  expect(snapshots.step).toBeNull();
  snapshots.taken(tip(5));
  snapshots.reached(tip(6));
  expect(done).toEqual(["copy 5", "say 5"]);
  expect(snapshots.step).toBe(5);
  snapshots.discard(4);
  expect(snapshots.step).toBe(5);
  snapshots.discard(5);
  expect(snapshots.step).toBeNull();
});

it("is copied at once at rest; wanted before, it is copied when the state comes to rest", () => {
  snapshots.want(tip(7), true);
  expect(done).toEqual(["copy 7"]);
  snapshots.taken(tip(7));
  snapshots.discard(7);
  snapshots.want(tip(7), false);
  snapshots.reached(tip(7));
  expect(done).toEqual(["copy 7", "say 7", "copy 7"]);
});

it("wanted again while it is copied or fresh, no second copy spoils the first", () => {
  snapshots.want(tip(2), false);
  snapshots.reached(tip(3));
  snapshots.want(tip(3), false);
  snapshots.taken(tip(3));
  snapshots.want(tip(4), false);
  snapshots.reached(tip(4));
  expect(done).toEqual(["copy 3", "say 3", "say 3"]);
});

it("one of an older step does not answer: nothing can be pulled until the new one is whole", () => {
  snapshots.want(tip(2), true);
  snapshots.taken(tip(2));
  snapshots.want(tip(4), false);
  snapshots.reached(tip(5));
  expect(snapshots.step).toBeNull();
  expect(done).toEqual(["copy 2", "say 2", "copy 5"]);
});
