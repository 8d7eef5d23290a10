import { describe, expect, test } from "vitest";
import { DEFAULT_TIMING } from "../../shared/config/timing.ts";
import type { Progress } from "../../shared/protocol/messages.ts";
import type { ViewId } from "../../shared/protocol/view.ts";
import { Cluster, historyAt, tipAt } from "./machine-support.ts";

const waits = (cluster: Cluster) => cluster.events.flatMap((e) => (e.type === "waiting" ? [e.detail] : []));
const outcome = (cluster: Cluster) => cluster.actions.find((action) => action.kind === "finish");
const lost = (cluster: Cluster) =>
  cluster.events.flatMap((e) => (e.type === "worker" && e.change === "lost" ? [`${e.name}: ${e.why}`] : []));

/** Time passes; these workers are heard. */
function pass(
  cluster: Cluster,
  millis: number,
  heard: Record<string, number> = {},
  more: Partial<Progress> = {},
): void {
  for (const end = cluster.now + millis; cluster.now < end; ) {
    cluster.beat(heard, more);
    cluster.tick();
  }
}

describe("a run that cannot go on", () => {
  test("waits for --min-workers, says who is missing at a bounded rate, and goes on when somebody comes", () => {
    const cluster = new Cluster({ workers: 2, minWorkers: 2 });
    cluster.join("a");
    expect(waits(cluster).at(-1)).toBe("1 of 2 workers is ready");
    cluster.join("b");
    expect(cluster.shards).toEqual({ a: "0-4", b: "4-8" });
    expect(cluster.machine.waiting).toBeNull();

    cluster.die("b");
    const told = "1 of at least 2 workers is there: b was lost";
    expect(waits(cluster).at(-1)).toBe(told);
    expect(cluster.machine.waiting?.detail).toBe(told);
    const before = waits(cluster).length;
    pass(cluster, 60_000, { a: 10 });
    const since = waits(cluster).slice(before);
    expect(since).toHaveLength(60_000 / DEFAULT_TIMING.sayAgain);
    expect(since.at(-1)).toBe(`${told}, for 60 s now`);
    expect(outcome(cluster)).toBeUndefined();

    cluster.join("c");
    expect(cluster.shards).toEqual({ a: "0-4", c: "4-8" });
    expect(cluster.machine.waiting).toBeNull();
  });

  test("gives up after maxWait with a code, the checkpoint kept", () => {
    const cluster = new Cluster({ workers: 1, minWorkers: 1 }, historyAt(40, { checkpoint: tipAt(40) }));
    pass(cluster, DEFAULT_TIMING.maxWait);
    expect(outcome(cluster)).toBeUndefined();
    pass(cluster, 200);
    expect(outcome(cluster)).toMatchObject({
      outcome: {
        kind: "failed",
        code: "LS_TOO_FEW_WORKERS",
        message: expect.stringMatching(
          /600 s \(timing\.maxWait\).*no worker is ready yet.*checkpoint of step 40 is kept/,
        ),
      },
    });
  });

  test("all workers die: the run waits, and the first who comes loads the newest checkpoint", () => {
    const cluster = Cluster.of(["a", "b"]);
    cluster.at = 7;
    cluster.machine.checkpoint = tipAt(5);
    cluster.machine.recent.set(7, tipAt(7));
    cluster.machine.ledger = tipAt(7);
    for (const name of ["a", "b"]) cluster.feed({ kind: "disconnected", incarnation: name as never });
    for (const name of ["a", "b"]) cluster.feed({ kind: "refused", incarnation: name as never });
    expect(waits(cluster).at(-1)).toBe("0 of at least 1 workers are there: a was lost, b was lost");
    pass(cluster, 20_000);
    cluster.at = 0;
    cluster.join("c");
    expect(cluster.events).toContainEqual(expect.objectContaining({ type: "fallback", fromStep: 7, toStep: 5 }));
    expect(cluster.shards).toEqual({ c: "0-8" });
    expect(cluster.machine.installedBase).toEqual(tipAt(5));
  });

  test("names whose answer it needs; whoever is heard and does not answer is evicted after answerTimeout, and no sooner", () => {
    const cluster = Cluster.of(["a", "b", "c"]);
    cluster.mute.add("b");
    cluster.die("c");
    pass(cluster, DEFAULT_TIMING.answerTimeout - 200, { a: 10, b: 10 });
    expect(waits(cluster).at(-1)).toBe("b must answer before view 1.2");
    expect(lost(cluster)).toEqual(["c: its process is gone"]);
    pass(cluster, 400, { a: 10, b: 10 });
    expect(lost(cluster)).toEqual(["c: its process is gone", "b: it is heard and does not answer"]);
    expect(cluster.shards).toEqual({ a: "0-8" });
  });
});

describe("no step and no silence", () => {
  const blamed = (who: string) => ({
    peers: [{ incarnation: who as never, owed: 1000, received: 0 }],
    phase: "exchange" as const,
  });

  test("says which step and who holds it up before the budget, and evicts that one after it", () => {
    const cluster = Cluster.of(["a", "b", "c"]);
    const stuck = (millis: number) => {
      for (const end = cluster.now + millis; cluster.now < end; ) {
        cluster.beat({ a: 10, c: 10 }, blamed("b"));
        cluster.beat({ b: 10 });
        cluster.tick();
      }
    };
    stuck(DEFAULT_TIMING.sayAgain + 300);
    expect(waits(cluster).at(-1)).toBe("step 0 is not done yet: b must go on");
    expect(lost(cluster)).toEqual([]);
    stuck(DEFAULT_TIMING.stepBudgetFloor - DEFAULT_TIMING.sayAgain);
    expect(lost(cluster)).toEqual([expect.stringMatching(/^b: no step for 12 s/)]);
    expect(cluster.shards).toEqual({ a: "0-4", c: "4-8" });
  });

  test("a member that fetches the images of its new shards gets the time of a first step, and not more", () => {
    const cluster = Cluster.of(["a", "b"]);
    const fetching = (millis: number) => {
      for (const end = cluster.now + millis; cluster.now < end; ) {
        cluster.beat({ a: 10 }, blamed("b"));
        cluster.beat({ b: 10 }, { phase: "loading" });
        cluster.tick();
      }
    };
    fetching(DEFAULT_TIMING.firstStepBudget - 1000);
    expect(lost(cluster)).toEqual([]);
    fetching(2000);
    expect(lost(cluster)).toEqual([expect.stringMatching(/^b: no step for 90 s/)]);
  });

  test("where nobody owes anything all are asked where they stand, and the mute one goes", () => {
    const cluster = Cluster.of(["a", "b"]);
    cluster.mute.add("b");
    pass(cluster, 30_000, { a: 10, b: 10 }, { phase: "update" });
    expect(cluster.views.at(-1)).toContain("nobody to blame");
    expect(lost(cluster)).toEqual(["b: it is heard and does not answer"]);
  });
});

describe("silence", () => {
  test("of one evicts after the time-out; of all at once only after the grace; and never while our own clock jumped", () => {
    const one = Cluster.of(["a", "b"]);
    pass(one, DEFAULT_TIMING.heartbeatTimeout + 200, { a: 10 });
    expect(lost(one)).toEqual([expect.stringMatching(/^b: silent for 1[56]\d\d ms/)]);

    const all = Cluster.of(["a", "b"]);
    pass(all, DEFAULT_TIMING.grace - 200);
    expect(lost(all)).toEqual([]);
    pass(all, 500);
    expect(lost(all)).toHaveLength(2);

    const jump = Cluster.of(["a", "b"]);
    jump.tick(60_000);
    pass(jump, DEFAULT_TIMING.heartbeatTimeout - 200);
    expect(lost(jump)).toEqual([]);
  });

  test("after a take-over nobody is evicted for two time-outs", () => {
    const before = Cluster.of(["a", "b"]);
    const view = before.machine.installed!;
    const cluster = new Cluster({ term: 2, workers: 2 }, historyAt(3, { views: [view] }));
    cluster.at = 3;
    cluster.back("a", view.id);
    pass(cluster, 2 * DEFAULT_TIMING.heartbeatTimeout - 200, { a: 10 });
    expect(waits(cluster).at(-1)).toBe("members of the last view may come back");
    expect(cluster.machine.installed).toBeNull();
    pass(cluster, 400, { a: 10 });
    expect(cluster.shards).toEqual({ a: "0-8" });
    expect(cluster.machine.installedBase).toEqual(tipAt(3));
    expect(lost(cluster)).toEqual(["b: it has not come back to the coordinator that took over"]);
  });

  test("members that died with their coordinator are told as lost; those that a person let go are not", () => {
    const view = Cluster.of(["a", "b"]).machine.installed!;
    const next = (resumed: boolean) => {
      const history = historyAt(3, { views: [view], checkpoint: tipAt(3) });
      const cluster = new Cluster({ term: 2, workers: 1, resumed }, history);
      pass(cluster, 2 * DEFAULT_TIMING.heartbeatTimeout + 200);
      cluster.join("c");
      expect(cluster.shards).toEqual({ c: "0-8" });
      return lost(cluster);
    };
    expect(next(false)).toEqual(
      ["a", "b"].map((name) => `${name}: it has not come back to the coordinator that took over`),
    );
    expect(next(true)).toEqual([]);
  });

  test("a view is not taken over where a member has promised a higher one: it is closed, though it was in that view", () => {
    const view = Cluster.of(["a"]).machine.installed!;
    const takeOver = (promised: ViewId) => {
      const cluster = new Cluster({ term: 2, workers: 1 }, historyAt(3, { views: [view] }));
      cluster.at = 3;
      cluster.back("a", view.id, promised);
      return cluster.machine.installed?.id ?? null;
    };
    expect(takeOver(view.id)).toEqual(view.id);
    expect(takeOver({ term: 1, number: 2 })).toBeNull();
  });

  test("a quarantine doubles with each eviction and is kept in an unplanned change, unless there is nobody else", () => {
    const cluster = Cluster.of(["a", "b", "c"]);
    const times: number[] = [];
    for (let i = 0; i < 4; i++) {
      pass(cluster, DEFAULT_TIMING.heartbeatTimeout + 200, { a: 10, b: 10 });
      cluster.back("c");
      const from = cluster.now;
      while (cluster.planned === null) {
        cluster.beat({ a: 10, b: 10, c: 10 });
        cluster.tick();
      }
      times.push(cluster.now - from);
      cluster.switchOver();
      cluster.beat({ a: 10, b: 10, c: 10 });
      cluster.switchOver();
    }
    const { quarantineFirst } = DEFAULT_TIMING;
    for (const [i, time] of times.entries()) {
      expect(time).toBeGreaterThan(quarantineFirst * 2 ** i - 300);
      expect(time).toBeLessThan(quarantineFirst * 2 ** i + 300);
    }
    // A change while c is out: it answers, and waits for its time.
    pass(cluster, DEFAULT_TIMING.heartbeatTimeout + 200, { a: 10, b: 10 });
    cluster.back("c");
    cluster.die("b");
    expect(cluster.shards).toEqual({ a: "0-8" });
    cluster.die("a");
    expect(cluster.shards).toEqual({ c: "0-8" });
  });
});

describe("leaving", () => {
  const leave = (cluster: Cluster) => cluster.message("a", { kind: "leaving", reason: "asked to leave (SIGTERM)" });
  const released = (cluster: Cluster) => cluster.actions.some((x) => x.kind === "send" && x.message.kind === "release");

  test("the last worker waits until a state from after its request is a checkpoint, and says so", () => {
    const cluster = Cluster.of(["a"]);
    leave(cluster);
    expect(waits(cluster).at(-1)).toBe("a will leave once its state is a checkpoint");
    expect(cluster.actions.filter((x) => x.kind === "send" && x.message.kind === "snapshot")).toHaveLength(1);
    cluster.machine.recent.set(0, tipAt(0));
    cluster.message("a", { kind: "snapshot", tip: tipAt(0), bytes: 4 });
    expect(cluster.actions).toContainEqual(expect.objectContaining({ kind: "storeCheckpoint", tip: tipAt(0) }));
    expect(released(cluster)).toBe(false);
    cluster.feed({ kind: "checkpointStored", tip: tipAt(0) });
    expect(released(cluster)).toBe(true);
    expect(waits(cluster).at(-1)).toBe("0 of at least 1 workers are there");
  });

  test("a run that is stopped afterwards ends at once, with that checkpoint", () => {
    for (const beyond of [0, 3]) {
      const cluster = Cluster.of(["a"]);
      leave(cluster);
      cluster.machine.recent.set(0, tipAt(0));
      cluster.message("a", { kind: "snapshot", tip: tipAt(0), bytes: 4 });
      // It went on until it heard that it may go; those steps are done again.
      cluster.machine.ledger = tipAt(beyond);
      cluster.feed({ kind: "checkpointStored", tip: tipAt(0) });
      expect(outcome(cluster)).toBeUndefined();
      cluster.feed({ kind: "stop", reason: "terminated" });
      expect(outcome(cluster)).toMatchObject({ outcome: { kind: "stopped", reason: "terminated" } });
    }
  });

  test("one that has lost its workers waits for what they know beyond the checkpoint, and only then", () => {
    const stopped = (checkpoint: number) => {
      const cluster = new Cluster({ workers: 1 }, historyAt(40, { checkpoint: tipAt(checkpoint) }));
      cluster.at = 40;
      cluster.join("a");
      cluster.die("a");
      cluster.feed({ kind: "stop", reason: "terminated" });
      return outcome(cluster);
    };
    expect(stopped(36)).toBeUndefined();
    expect(stopped(40)).toMatchObject({ outcome: { kind: "stopped" } });
  });

  test("on a full disk it goes after leaveTimeout, and the event says that its state was not kept", () => {
    const cluster = Cluster.of(["a"]);
    cluster.machine.recent.set(0, tipAt(0));
    leave(cluster);
    for (const end = cluster.now + DEFAULT_TIMING.leaveTimeout + 200; cluster.now < end; ) {
      cluster.message("a", { kind: "snapshot", tip: tipAt(0), bytes: 4 });
      cluster.feed({ kind: "checkpointFailed", tip: tipAt(0), reason: "ENOSPC" });
      cluster.beat({ a: 0 }); // Still in its first step.
      cluster.tick();
      if (cluster.now < DEFAULT_TIMING.leaveTimeout) expect(released(cluster)).toBe(false);
    }
    expect(released(cluster)).toBe(true);
    expect(cluster.events).toContainEqual(
      expect.objectContaining({ type: "checkpoint", state: "failed", detail: "a left without it after 30 s" }),
    );
  });

  test("where others stay a leave is a planned view, and the leaver is let go once all have switched", () => {
    const cluster = Cluster.of(["a", "b"]);
    leave(cluster);
    expect(cluster.planned?.members.map((m) => m.incarnation)).toEqual(["b"]);
    expect(released(cluster)).toBe(false);
    cluster.switchOver();
    expect(released(cluster)).toBe(true);
    expect(cluster.views.at(-1)).toBe("1.2 leave: a");
    expect(lost(cluster)).toEqual([]);
  });
});

describe("evaluation", () => {
  test("a helper whose predictions do not come is evicted, and its batches go to the others", () => {
    const cluster = new Cluster({ workers: 2, totalSteps: 0, evaluationBatches: 3 });
    cluster.machine.checkpoint = tipAt(0);
    for (const name of ["a", "b"]) cluster.join(name);
    for (const name of ["a", "b"])
      cluster.message(name, { kind: "idle", view: cluster.machine.installed!.id, standing: cluster.standing() });
    expect(cluster.machine.phase).toBe("evaluating");
    for (const batch of [0, 1]) cluster.message("a", { kind: "evaluated", batch });
    pass(cluster, DEFAULT_TIMING.firstStepBudget + 300, { a: 10, b: 10 });
    expect(lost(cluster)).toEqual([expect.stringMatching(/^b: no prediction for 90 s/)]);
    cluster.message("a", { kind: "idle", view: cluster.machine.installed!.id, standing: cluster.standing() });
    cluster.message("a", { kind: "evaluated", batch: 2 });
    expect(outcome(cluster)).toMatchObject({ outcome: { kind: "done" } });
  });
});

test("a run that is stopped ends at its checkpoint where all that had come further are lost meanwhile", () => {
  const cluster = new Cluster({ workers: 1, totalSteps: 100 }, historyAt(45, { checkpoint: tipAt(36) }));
  cluster.at = 45;
  cluster.join("a");
  cluster.feed({ kind: "stop", reason: "Ctrl-C" });
  cluster.die("a");
  cluster.at = 0;
  cluster.join("b");
  expect(cluster.at).toBe(36);
  cluster.message("b", { kind: "idle", view: cluster.machine.installed!.id, standing: cluster.standing() });
  expect(cluster.actions).toContainEqual({ kind: "finish", outcome: { kind: "stopped", reason: "Ctrl-C" } });
});
