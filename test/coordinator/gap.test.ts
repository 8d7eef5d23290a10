import { expect, test } from "vitest";
import { DEFAULT_TIMING } from "../../shared/config/timing.ts";
import type { Incarnation } from "../../shared/protocol/view.ts";
import { Cluster, historyAt, tipAt } from "./machine-support.ts";

const { answerTimeout } = DEFAULT_TIMING;

/** Members of a view of the term before, at step 62, whose coordinator comes back with the records of step 26. */
function restored(): Cluster {
  const id = { term: 1, number: 1 };
  const members = ["a", "b"].map((name, i) => ({
    ...{ incarnation: name as Incarnation, address: `${name}:1`, entry: "level" as const },
    shards: { from: 4 * i, to: 4 * i + 4 },
  }));
  const view = { id, predecessor: null, kind: "train" as const, members };
  const cluster = new Cluster({ term: 2 }, historyAt(26, { views: [view], checkpoint: tipAt(22) }));
  cluster.at = 62;
  for (const name of ["a", "b"]) cluster.back(name, id);
  return cluster;
}

function report(cluster: Cluster, step: number): void {
  const { lineage, stateHash } = tipAt(step + 1);
  const view = { term: 1, number: 1 };
  const entry = { step, view, lineage, stateHash, shards: [], loss: 1, gradientNorm: 1, applied: true };
  cluster.message("a", { kind: "final", entries: [entry] });
}

const outcomes = (cluster: Cluster) =>
  cluster.actions.flatMap((action) => (action.kind === "finish" ? [action.outcome] : []));

test("records that are older than what members have forgotten end the run with a sentence, and it can be resumed", () => {
  const cluster = restored();
  report(cluster, 60);
  cluster.now += answerTimeout;
  cluster.beat({ a: 1, b: 1 });
  report(cluster, 61);
  expect(outcomes(cluster)).toEqual([]);
  cluster.now += 1;
  cluster.tick();
  expect(outcomes(cluster)).toEqual([
    {
      kind: "failed",
      code: "LS_RECORDS_BEHIND",
      message: expect.stringMatching(/step 60, and the records end at step 26.*Resume the run/),
    },
  ]);
  const released = cluster.actions.flatMap((a) => (a.kind === "send" && a.message.kind === "release" ? [a.to] : []));
  expect(released).toEqual(["a", "b"]);
});

test("a report that overtakes the one before it is no gap", () => {
  const cluster = restored();
  report(cluster, 27);
  cluster.now += answerTimeout;
  cluster.beat({ a: 1, b: 1 });
  report(cluster, 26);
  report(cluster, 27);
  cluster.now += answerTimeout + 1;
  cluster.tick();
  expect(outcomes(cluster)).toEqual([]);
  expect(cluster.machine.ledger).toEqual(tipAt(28));
});

test("what one worker reports and no member's heartbeat confirms ends no run, however long the next step takes", () => {
  const cluster = restored();
  cluster.at = 26;
  report(cluster, 1_000_000);
  cluster.beat({ a: 1, b: 1 });
  cluster.now += answerTimeout + 1;
  cluster.beat({ a: 1, b: 1 });
  cluster.tick();
  expect(outcomes(cluster)).toEqual([]);
});
