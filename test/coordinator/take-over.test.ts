import { describe, expect, test } from "vitest";
import { Random } from "../simulation/clock.ts";
import { Cluster } from "./cluster.ts";

/**
 * One run with a joiner at step 2, a leaver at step 5, a checkpoint every three steps and the last one: every kind of record
 * that a run has, planned switches and checkpoints under way.
 */
async function story(seed: number): Promise<Cluster> {
  const random = new Random(seed);
  const cluster = await Cluster.of(() => random.next());
  const leaver = cluster.addWorker();
  cluster.addWorker();
  let [joined, left] = [false, false];
  cluster.stepped = ({ member }) => {
    if (!joined && member.tip.step >= 2) cluster.addWorker();
    joined ||= member.tip.step >= 2;
    if (!left && member.tip.step >= 5) leaver.leave();
    left ||= member.tip.step >= 5;
  };
  return cluster;
}

/** The run has ended as the undisturbed one does, and so say its records and its newest checkpoint. */
async function expectWhole(cluster: Cluster, said: string): Promise<void> {
  expect(cluster.outcome, said).toBe("done");
  cluster.disk.crashIn = Number.POSITIVE_INFINITY;
  const { summary, folded, checkpoints } = await cluster.remains();
  const end = cluster.line.tips.at(-1)!;
  expect(summary, said).toMatchObject({ lineage: end.lineage, steps: cluster.totalSteps, samplesPerEpochExact: true });
  expect(folded.ledgerTip, said).toEqual(end);
  expect((await checkpoints.newestUsable())?.tip, said).toEqual(end);
  const left = [...cluster.checkpoints.files.keys()].filter((name) => name !== "manifest.json").sort();
  expect(left, said).toEqual(
    folded.checkpoints
      .slice(-2)
      .map(({ file }) => file)
      .sort(),
  );
  expect(cluster.warnings, said).toEqual([]);
}

/** Operations on the disks of the undisturbed story. */
async function operationsOf(seed: number): Promise<readonly string[]> {
  const cluster = await story(seed);
  await cluster.run();
  const operations = [...cluster.disk.operations];
  await expectWhole(cluster, "undisturbed");
  return operations;
}

describe("a coordinator that crashes", () => {
  test("at any operation on its disks, whatever of it is left: the next one ends with the same line", async () => {
    const operations = await operationsOf(1);
    // Everything that can be interrupted happened.
    for (const kind of ["create term-1", "write term-1", "sync term-1", "create step-", "sync step-", "rename step-"]) {
      expect(
        operations.some((operation) => operation.startsWith(kind)),
        kind,
      ).toBe(true);
    }
    for (let at = 0; at < operations.length; at++) {
      const cluster = await story(1);
      cluster.disk.crashIn = at;
      await cluster.run();
      await expectWhole(cluster, `crash at operation ${at}: ${operations[at]}`);
    }
  });

  test("again and again while it takes over", async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const random = new Random(1000 + seed);
      const cluster = await story(seed);
      for (let crash = 0; crash < 5; crash++) {
        cluster.disk.crashIn = random.below(25);
        const until = cluster.clock.now + random.below(300);
        await cluster.run(() => cluster.clock.now > until);
      }
      cluster.disk.crashIn = Number.POSITIVE_INFINITY;
      await cluster.run();
      await expectWhole(cluster, `seed ${seed}`);
    }
  });

  test("together with all its workers: the run goes on from the last checkpoint", async () => {
    const operations = await operationsOf(2);
    for (let at = 20; at < operations.length - 4; at += 5) {
      const cluster = await story(2);
      cluster.disk.crashIn = at;
      await cluster.run(() => cluster.disk.crashIn === Number.POSITIVE_INFINITY);
      for (const worker of cluster.workers.values()) worker.alive = false;
      cluster.addWorker();
      cluster.addWorker();
      await cluster.run();
      await expectWhole(cluster, `crash at operation ${at}: ${operations[at]}`);
    }
  });
});

describe("two coordinators on one run", () => {
  test("one is frozen at any operation and thaws while the other rules: one line, nothing lost, one of them ends", async () => {
    const operations = await operationsOf(3);
    let superseded = 0;
    for (let at = 0; at < operations.length; at++) {
      const cluster = await story(3);
      cluster.freezeAt = at;
      await cluster.run();
      await expectWhole(cluster, `frozen at operation ${at}: ${operations[at]}`);
      superseded += cluster.superseded;
    }
    // The others were frozen so late that the run was over, or in an operation after which they had no more to say.
    expect(superseded).toBeGreaterThan(operations.length / 4);
  });
});
