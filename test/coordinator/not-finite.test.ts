import { describe, expect, test } from "vitest";
import { Cluster, tipAt } from "./machine-support.ts";

/** Steps that end at these numbers of steps become final, as `a` tells them. */
function steps(cluster: Cluster, from: number, to: number, applied: boolean): void {
  const view = cluster.machine.installed!.id;
  for (let step = from; step < to; step += 1) {
    const { lineage, stateHash } = tipAt(step + 1);
    const entry = { step, view, lineage, stateHash, shards: [], loss: 1, gradientNorm: 1, applied };
    cluster.at = step + 1;
    cluster.message("a", { kind: "final", entries: [entry] });
  }
}

const sent = (cluster: Cluster, kind: string) =>
  cluster.actions.filter((action) => action.kind === "send" && action.message.kind === kind).length;
const stored = (cluster: Cluster) =>
  cluster.actions.flatMap((action) => (action.kind === "storeCheckpoint" ? [action.tip.step] : []));
const snapshot = (cluster: Cluster, at: number) => cluster.message("a", { kind: "snapshot", tip: tipAt(at), bytes: 4 });

describe("checkpoints while steps are not applied", () => {
  test("none is asked for: the next one is of a step that was applied", () => {
    const cluster = Cluster.of(["a"], { checkpointEverySteps: 4 });
    steps(cluster, 0, 3, true);
    steps(cluster, 3, 9, false);
    cluster.tick();
    expect(sent(cluster, "snapshot")).toBe(0);
    steps(cluster, 9, 10, true);
    cluster.tick();
    expect(sent(cluster, "snapshot")).toBe(1);
    snapshot(cluster, 10);
    cluster.tick();
    expect(stored(cluster)).toEqual([10]);
  });

  test("one that was asked for before and taken between them is discarded", () => {
    const cluster = Cluster.of(["a"], { checkpointEverySteps: 4 });
    steps(cluster, 0, 4, true);
    cluster.tick();
    expect(sent(cluster, "snapshot")).toBe(1);
    steps(cluster, 4, 6, false);
    snapshot(cluster, 6);
    cluster.tick();
    expect(stored(cluster)).toEqual([]);
    expect(sent(cluster, "discard")).toBe(1);
  });

  test("one of the step before them is stored", () => {
    const cluster = Cluster.of(["a"], { checkpointEverySteps: 4 });
    steps(cluster, 0, 4, true);
    cluster.tick();
    steps(cluster, 4, 6, false);
    snapshot(cluster, 4);
    cluster.tick();
    expect(stored(cluster)).toEqual([4]);
  });

  test("the last worker's state is stored all the same when it leaves", () => {
    const cluster = Cluster.of(["a"], { checkpointEverySteps: 4 });
    steps(cluster, 0, 6, false);
    cluster.message("a", { kind: "leaving", reason: "SIGTERM" });
    cluster.tick();
    expect(sent(cluster, "snapshot")).toBe(1);
    snapshot(cluster, 6);
    cluster.tick();
    expect(stored(cluster)).toEqual([6]);
  });
});
