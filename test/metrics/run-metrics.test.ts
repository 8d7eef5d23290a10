import { describe, expect, it } from "vitest";
import { PauseWatch } from "../../coordinator/pause-watch.ts";
import { RunMetrics, type Scraped } from "../../coordinator/run-metrics.ts";
import { stragglerRatios } from "../../coordinator/straggler.ts";
import { targetGroups } from "../../coordinator/targets.ts";
import type { Config } from "../../shared/config/schema.ts";
import type { View } from "../../shared/protocol/view.ts";
import type { MemberAction, MemberEvent } from "../../worker/member/state.ts";
import { StepClock } from "../../worker/step-clock.ts";

describe("the straggler's score", () => {
  const scores = (...millis: number[]) =>
    stragglerRatios(millis.map((shardMillis, i) => ({ name: `w${i}`, shardMillis }))).map(([, ratio]) => ratio);

  it("is a worker's time over the median of the others", () => {
    expect(scores(10, 20)).toEqual([0.5, 2]);
    // The others of the third are 10, 10, 14, 16: their median is 12.
    expect(scores(10, 10, 36, 14, 16)).toEqual([10 / 15, 10 / 15, 3, 14 / 13, 16 / 12]);
    expect(scores(7, 7, 7)).toEqual([1, 1, 1]);
  });

  it("needs others to compare with, and a first micro-batch", () => {
    expect(scores(10)).toEqual([]);
    expect(scores(10, 0)).toEqual([]);
    expect(scores(10, 0, 30)).toEqual([1 / 3, 3]);
  });
});

describe("the pause of a change of view", () => {
  it("is the gap around it beyond the median gap; several changes at once are one, unplanned if one of them is", () => {
    const watch = new PauseWatch();
    watch.view(true); // The first view of a reign interrupts nothing.
    const finals = (...times: number[]) => times.map((time) => watch.final(time));
    expect(finals(0, 100, 200, 300)).toEqual([null, null, null, null]);
    watch.view(true);
    expect(finals(550, 650)).toEqual([{ planned: true, seconds: 0.15 }, null]);
    watch.view(true);
    watch.view(false);
    watch.view(true);
    expect(finals(2750)).toEqual([{ planned: false, seconds: 2 }]);
    watch.view(true);
    expect(finals(2760)).toEqual([{ planned: true, seconds: 0 }]);
  });
});

describe("a worker's clock of its steps", () => {
  const view = (...members: string[]) =>
    ({ members: members.map((incarnation) => ({ incarnation })) }) as unknown as View;
  const trailer = (from: string) => ({ kind: "trailer", trailer: { from } }) as unknown as MemberEvent;
  const computed = { kind: "computed" } as unknown as MemberEvent;
  const commit = { kind: "commit" } as unknown as MemberAction;
  const mismatch = { kind: "send", message: { kind: "mismatch" } } as unknown as MemberAction;
  const open = (...members: string[]) => ({ kind: "openStreams", view: view(...members) }) as unknown as MemberAction;

  it("counts what is waited for after the own gradients, by peer", () => {
    const clock = new StepClock();
    clock.does(open("a", "b"), 0);
    clock.saw(trailer("a"), 5);
    clock.saw(computed, 10);
    clock.saw(trailer("b"), 40);
    clock.does(commit, 50);
    clock.saw(computed, 100);
    clock.saw(trailer("a"), 101);
    clock.saw(trailer("b"), 103);
    clock.does(commit, 103);
    expect(Object.fromEntries(clock.waits)).toEqual({ a: 1, b: 33 });
    expect(clock.exposedMillis).toBe(43);
    expect(clock.checks).toEqual({ equal: 2, different: 0 });
  });

  it("forgets whoever left the view, and a step that was given up", () => {
    const clock = new StepClock();
    clock.does(open("a", "b"), 0);
    clock.saw(computed, 10);
    clock.does({ kind: "close" } as unknown as MemberAction, 500);
    clock.does(mismatch, 500);
    clock.does(open("b", "c"), 510);
    clock.saw(trailer("b"), 600);
    clock.does(commit, 600);
    expect(Object.fromEntries(clock.waits)).toEqual({ b: 0, c: 0 });
    expect(clock.exposedMillis).toBe(0);
    expect(clock.checks).toEqual({ equal: 1, different: 1 });
  });
});

describe("a lost worker", () => {
  it("is missing until it comes back, or until as many are there as the run was started with", async () => {
    const metrics = new RunMetrics({
      ...{ runId: "r", recipe: { shards: 8, steps: 9, model: {} } },
      place: { workers: 3, minWorkers: 1, checkpoint: { everySteps: 3 } },
    } as unknown as Config);
    const state = { phase: "running", waiting: null, settings: { evaluationBatches: 0 } };
    const scrape = async (...names: string[]) => {
      const workers = names.map((name) => ({ name, state: "computing" }));
      metrics.scrape({ ruler: { state }, workers, broadcaster: null, disk: { room: null } } as unknown as Scraped);
      const text = await metrics.metrics.registry.metrics();
      return [...text.matchAll(/^lockstep_worker_missing\{.*worker="(.*?)"/gm)].map(([, name]) => name);
    };
    const lost = (name: string) =>
      metrics.event({ type: "worker", change: "lost", name, worker: "i", why: "" } as never);
    lost("a");
    lost("b");
    expect(await scrape("c")).toEqual(["a", "b"]);
    expect(await scrape("a", "c")).toEqual(["b"]);
    expect(await scrape("a", "c", "d")).toEqual([]);
    expect(await scrape("a", "c")).toEqual([]);
  });
});

describe("the targets of a run", () => {
  it("are the coordinator and the workers that are there, in order, each with its labels", () => {
    const worker = (name: string, httpAddress: string) => ({ name, host: "here", address: "h:0", httpAddress });
    const workers = [worker("worker-1", "h:2"), worker("worker-0", "h:1"), worker("worker-2", "")];
    expect(targetGroups("r", "h:9", workers, "h")).toEqual([
      { targets: ["h:9"], labels: { run: "r", part: "coordinator" } },
      { targets: ["h:1"], labels: { run: "r", part: "worker", worker: "worker-0", host: "here" } },
      { targets: ["h:2"], labels: { run: "r", part: "worker", worker: "worker-1", host: "here" } },
    ]);
  });

  it("are not what another machine keeps to itself", () => {
    const worker = (name: string, address: string) => ({ name, host: name, address, httpAddress: "127.0.0.1:5" });
    const workers = [worker("a", "10.0.0.1:7"), worker("b", "10.0.0.2:7"), worker("c", "127.0.0.1:7")];
    const listed = targetGroups("r", "127.0.0.1:9", workers, "10.0.0.1", true);
    expect(listed.map(({ labels }) => labels.worker)).toEqual([undefined, "a", "c"]);
  });
});
