import { expect, test } from "vitest";
import type { Incarnation, View } from "../../shared/protocol/view.ts";
import { advance } from "../../worker/member/member.ts";
import { createMember, KEPT_BOUND, type MemberAction, type MemberEvent } from "../../worker/member/state.ts";

/** A sole worker whose coordinator is away: it keeps its entries, stops at the bound, says so once, and goes on. */
test("a member keeps a bounded number of unrecorded steps, says that it waits, and goes on when they are recorded", () => {
  const self = "a" as Incarnation;
  const root = { step: 0, lineage: "l0", stateHash: "h0" };
  const member = createMember(self, 2 * KEPT_BOUND, root);
  const view: View = {
    id: { term: 1, number: 1 },
    predecessor: null,
    kind: "train",
    members: [{ incarnation: self, address: "a:1", shards: { from: 0, to: 1 }, entry: "level" }],
  };
  const feed = (event: MemberEvent) => advance(member, event);
  feed({ kind: "coordinator", message: { kind: "install", view, base: root } });

  /** Everything a step needs; what the machine answers to the last of it. */
  const step = (at: number): MemberAction[] => {
    const shards = [{ shard: 0, idsDigest: "", samples: 2, correct: 0, gradientDigest: "" }];
    feed({ kind: "reduced", view: view.id, step: at });
    return feed({ kind: "computed", view: view.id, step: at, shards, stateHash: `h${at}` });
  };
  const update = (at: number) => {
    const outcome = { lineage: `l${at + 1}`, stateHash: `h${at + 1}`, loss: 1, gradientNorm: 1, applied: true };
    feed({ kind: "updated", view: view.id, step: at, outcome });
  };
  for (let at = 0; at < KEPT_BOUND; at++) {
    expect(step(at).some(({ kind }) => kind === "commit")).toBe(true);
    update(at);
  }
  expect(step(KEPT_BOUND)).toContainEqual({ kind: "stalled", step: KEPT_BOUND, unrecorded: KEPT_BOUND });
  expect(member.word).toBe("open");
  const beat = (recorded: number) => feed({ kind: "coordinator", message: { kind: "heartbeat", term: 1, recorded } });
  expect(beat(0)).toEqual([]);
  const actions = beat(100);
  expect(actions.filter(({ kind }) => kind === "commit")).toMatchObject([{ step: KEPT_BOUND }]);
  expect(member.kept).toHaveLength(KEPT_BOUND - 100);
});
