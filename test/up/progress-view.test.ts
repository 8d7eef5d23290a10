import { describe, expect, it } from "vitest";
import { PlainDisplay } from "../../deploy/up/display.ts";
import { plainLine, runView, workerTable } from "../../deploy/up/progress-view.ts";
import { type RunStatus, runStatusSchema, secondsLeft, type WorkerStatus } from "../../deploy/up/status.ts";

const worker = (index: number, change: Partial<WorkerStatus> = {}): WorkerStatus => ({
  name: `worker-${index}`,
  incarnation: "a1",
  pid: 100 + index,
  address: "127.0.0.1:1",
  httpAddress: "127.0.0.1:2",
  state: "computing",
  why: "",
  shards: `${index * 4}-${index * 4 + 3}`,
  phase: "compute",
  step: 42,
  shardMillis: 27.04,
  images: 344,
  residentBytes: 612e6,
  ...change,
});

const status = (change: Partial<RunStatus> = {}): RunStatus => ({
  run: "r",
  term: 1,
  phase: "running",
  view: "1.1",
  step: 42,
  steps: 300,
  stepsPerEpoch: 15,
  loss: 2.187,
  accuracy: 0.125,
  imagesPerSecond: 103.2,
  secondsPerStep: 0.155,
  evaluation: { done: 0, batches: 80 },
  validation: null,
  checkpoint: 34,
  waiting: null,
  workers: [worker(0), worker(1)],
  messages: [],
  ...change,
});

describe("the view of a run", () => {
  it("shows progress, time left, speed, loss and one row for each worker", () => {
    expect(runView(status(), { width: 100 })).toEqual([
      "running [####------------------------] 14.0 %  step 42/300  epoch 2/20.0  40 s left",
      "loss 2.19  accuracy 12.5 %  103 images/s  view 1.1  checkpoint 34",
      "",
      "worker    state      shards  phase    ms/shard  images  memory",
      "worker-0  computing  0-3     compute      27.0     344  612 MB",
      "worker-1  computing  4-7     compute      27.0     344  612 MB",
    ]);
  });

  it("says for whom it waits, and knows nothing before the first step", () => {
    const early = {
      phase: "forming",
      step: 0,
      loss: null,
      accuracy: null,
      imagesPerSecond: null,
      secondsPerStep: null,
    };
    const lines = runView(
      status({ ...early, view: null, checkpoint: null, waiting: "1 of 2 workers are ready", workers: [] }),
      { width: 80 },
    );
    expect(lines).toEqual([
      "forming [----------------------------] 0.0 %  step 0/300  epoch 0/20.0",
      "loss -  accuracy -  - images/s  term 1  no checkpoint yet",
      "waiting: 1 of 2 workers are ready",
      "",
      "no worker has joined yet",
    ]);
  });

  it("names a worker that others cannot reach, with the reason", () => {
    const why = "worker-0 cannot reach worker-1 at 10.0.0.2:7400: connect ECONNREFUSED";
    const workers = [worker(0), worker(1, { state: "unreached", shards: "", why })];
    expect(runView(status({ workers }), { width: 200 })).toContain(`worker-1 is not let in: ${why}`);
  });

  it("shows evaluation by its batches", () => {
    const [first] = runView(status({ phase: "evaluating", evaluation: { done: 20, batches: 80 } }), { width: 80 });
    expect(first).toBe("evaluating [#######---------------------] batch 20/80");
  });

  it("fits the terminal, in width and height, for any number of workers", () => {
    const workers = Array.from({ length: 256 }, (_, i) => worker(i, { state: i % 16 === 0 ? "standby" : "computing" }));
    const lines = runView(status({ workers }), { width: 40, rows: 5 });
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(40);
    expect(lines).toHaveLength(3 + 1 + 5 + 1);
    expect(workerTable(workers, 5).at(-1)).toBe("and 251 more: 236 computing, 15 standby");
  });

  it("has one line for logs", () => {
    expect(plainLine(status())).toBe(
      "running, step 42/300, epoch 2/20.0, loss 2.19, 103 images/s, 2 of 2 workers compute, 40 s left",
    );
  });
});

describe("time left", () => {
  it("is steps times their mean time", () => {
    expect(secondsLeft({ step: 40, steps: 100, secondsPerStep: 0.5 })).toBe(30);
    expect(secondsLeft({ step: 40, steps: 100, secondsPerStep: null })).toBeNull();
  });
});

describe("an account of another version", () => {
  it("is shown as far as it is understood", () => {
    const { messages: _, workers: __, ...rest } = status();
    const parsed = runStatusSchema.parse({
      ...rest,
      loss: "NaN",
      news: 1,
      workers: [{ name: "w", state: "computing" }],
    });
    expect(parsed).toMatchObject({ loss: null, messages: [], workers: [{ name: "w", shards: "", residentBytes: 0 }] });
    expect(runStatusSchema.safeParse({ some: "thing" }).success).toBe(false);
  });
});

describe("lines for logs", () => {
  it("come when phase, epoch or the reason to wait changes, else every ten seconds if something moved", () => {
    const lines: string[] = [];
    let now = 0;
    const display = new PlainDisplay(
      (text) => lines.push(text.trim()),
      () => now,
    );
    const show = (at: number, change: Partial<RunStatus>) => {
      now = at;
      const before = lines.length;
      display.status(status(change));
      return lines.length > before;
    };
    expect(show(0, {})).toBe(true);
    expect(show(1000, { step: 43 })).toBe(false);
    expect(show(2000, { step: 45 })).toBe(true);
    expect(show(3000, { step: 45, waiting: "worker-1" })).toBe(true);
    expect(show(4000, { step: 45, waiting: "worker-1", phase: "finishing" })).toBe(true);
    expect(show(13_999, { step: 45, waiting: "worker-1", phase: "finishing", loss: 1 })).toBe(false);
    expect(show(14_000, { step: 45, waiting: "worker-1", phase: "finishing", loss: 1 })).toBe(true);
    expect(show(99_000, { step: 45, waiting: "worker-1", phase: "finishing", loss: 1 })).toBe(false);
  });
});
