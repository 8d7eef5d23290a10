import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { lastWordsIn } from "../../deploy/up/child.ts";
import { meaningOf } from "../../deploy/up/exit-meaning.ts";
import { finalText, summarySchema } from "../../deploy/up/final-text.ts";
import { newsLine } from "../../deploy/up/news-lines.ts";
import { newRunId } from "../../deploy/up/prepare.ts";
import { afterCrash } from "../../deploy/up/restart-policy.ts";
import { evaluationStart, runTimes } from "../../deploy/up/wall-time.ts";
import { subjectOf } from "../../shared/broadcast/subjects.ts";

describe("after a crash", () => {
  const policy = { most: 3, window: 1000, firstPause: 100, longestPause: 300, settled: 50 };

  it("pauses double up to the longest, and there is an end", () => {
    const decisions = [[], [0], [0, 10], [0, 10, 20]].map((restarts) => afterCrash(policy, restarts, 30));
    expect(decisions).toEqual([
      { kind: "restart", pause: 100 },
      { kind: "restart", pause: 200 },
      { kind: "restart", pause: 300 },
      { kind: "giveUp", restarts: 3 },
    ]);
  });

  it("old restarts are forgiven", () => {
    expect(afterCrash(policy, [0, 10, 20], 1015)).toEqual({ kind: "restart", pause: 100 });
  });

  it("the first pause is due again after each restart that has settled, however often that was", () => {
    const pauses = [[0], [0, 60], [0, 60, 70]].map((restarts) => afterCrash({ ...policy, most: 9 }, restarts, 120));
    expect(pauses.map((decision) => decision.kind === "restart" && decision.pause)).toEqual([100, 100, 100]);
    expect(afterCrash({ ...policy, most: 9 }, [0, 60, 70], 100)).toEqual({ kind: "restart", pause: 300 });
    expect(afterCrash({ ...policy, most: 2 }, [0, 60], 120)).toEqual({ kind: "giveUp", restarts: 2 });
  });

  it("no restart at all is a policy too", () => {
    expect(afterCrash({ ...policy, most: 0 }, [], 0)).toEqual({ kind: "giveUp", restarts: 0 });
  });

  it("any process that crashes at once is started a bounded number of times within a window", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 8 }),
        fc.array(fc.integer({ min: 0, max: 400 }), { maxLength: 60 }),
        (most, gaps) => {
          const restarts: number[] = [];
          let now = 0;
          for (const gap of gaps) {
            now += gap;
            if (afterCrash({ ...policy, most }, restarts, now).kind === "restart") restarts.push(now);
            expect(restarts.filter((at) => now - at < policy.window).length).toBeLessThanOrEqual(most);
          }
        },
      ),
    );
  });
});

describe("the end of a process", () => {
  it.each([
    [0, null, "finished"],
    [1, null, "crashed"],
    [2, null, "refused"],
    [3, null, "refused"],
    [null, "SIGKILL", "crashed"],
  ] as const)("with code %s and signal %s means it has %s", (code, signal, meaning) => {
    expect(meaningOf({ code, signal })).toBe(meaning);
  });

  it("has last words: the sentence with a code, else the error's line, else the last line for people", () => {
    const tensorFlow = "I0000 00:00:17955161.1 1 port.cc:153] oneDNN custom operations are on.";
    const trace = ["Error: no space left", "    at write (node:fs:1:1)", "", "Node.js v20.20.2"].join("\n");
    expect(lastWordsIn(`{"level":30}\nThe disk is full. [LS_DISK]\n${trace}\n${tensorFlow}\n`)).toBe(
      "The disk is full. [LS_DISK]",
    );
    expect(lastWordsIn(`hello\n${trace}\n${tensorFlow}`)).toBe("Error: no space left");
    expect(lastWordsIn(`hello\n${tensorFlow}\n{"level":30}\n`)).toBe("hello");
    expect(lastWordsIn(`${tensorFlow}\n`)).toBeNull();
  });
});

describe("times of a run", () => {
  it("training ends where evaluation begins", () => {
    const at = (second: number) => new Date(second * 1000).toISOString();
    const events = [
      { type: "phase", phase: "running", time: at(10) },
      { type: "phase", phase: "evaluating", time: at(50) },
      { type: "view", time: at(55) },
    ];
    expect(evaluationStart(events)).toBe(50_000);
    expect(evaluationStart(events.slice(0, 1))).toBeNull();
    expect(runTimes(5000, 70_000, 50_000, 75_000)).toEqual({ wallSeconds: 45, evaluationSeconds: 25 });
    expect(runTimes(5000, 70_000, null, 75_000)).toEqual({ wallSeconds: 65, evaluationSeconds: null });
  });
});

describe("a run's id", () => {
  it("sorts by time and is one token of a subject", () => {
    const id = newRunId(new Date("2026-01-02T03:04:05.678Z"), "a1b2c3");
    expect(id).toBe("20260102-030405-a1b2c3");
    expect(subjectOf(id, "step").split(".")).toHaveLength(4);
    expect(newRunId(new Date())).not.toBe(newRunId(new Date()));
  });
});

describe("the last words of a run", () => {
  const summary = summarySchema.parse({
    run: "r",
    outcome: "done",
    steps: 234,
    epochs: 6,
    workers: 2,
    imagesPerSecond: 108.4,
    wallSeconds: 277,
    evaluationSeconds: 61,
    weightsSha256: "ab",
    stateSha256: "cd",
    lineage: "ef",
    views: 3,
    failuresSurvived: 1,
    samplesPerEpochExact: true,
    accuracy: { top1: 0.6012, top1Low: 0.5904, top1High: 0.6119, top5: 0.961 },
  });

  it("name accuracy, speed, hashes and the report", () => {
    expect(finalText(summary, "runs/r/report/report.html")).toEqual([
      "accuracy    60.1 % (95 % interval 59.0 % to 61.2 %), top 5 96.1 %",
      "trained     234 steps, 6.00 epochs, up to 2 workers, 108 images/s",
      "took        4 min 37 s, evaluation 1 min 1 s",
      "membership  3 views, 1 failures survived, every sample exactly once per epoch",
      "weights     ab",
      "state       cd",
      "lineage     ef",
      "report      runs/r/report/report.html",
    ]);
  });

  it("do not hide that samples were lost", () => {
    expect(finalText({ ...summary, samplesPerEpochExact: false }, null).join()).toContain(
      "SAMPLES WERE REPEATED OR LOST",
    );
  });
});

describe("news of a run, as lines", () => {
  const step = {
    run: "r",
    view: "1.2",
    step: 7,
    epoch: 0,
    from: "a",
    loss: 1.5,
    accuracy: 0.25,
    images: 128,
    learningRate: 0.1,
  };
  const more = { gradientNorm: 1, applied: true, lineage: "l", shards: { a: [0], b: [1] } };

  it("name steps, epochs and events, and their run where there are several", () => {
    expect(newsLine({ kind: "step", message: { ...step, ...more } }, false)).toBe(
      "step 7  epoch 0  loss 1.50  accuracy 25.0 %  128 images  rate 0.100  view 1.2 of 2",
    );
    const epoch = { kind: "epoch", message: { ...step, epoch: 3 } } as const;
    expect(newsLine(epoch, true)).toBe("r  epoch 3 done  mean loss 1.50  accuracy 25.0 %  128 images");
    const event = { run: "r", time: "t", term: 1, type: "worker", change: "lost", name: "w", why: "" };
    expect(newsLine({ kind: "event", message: event }, false)).toBe("worker: change lost, name w");
  });

  it("do not pass over an update that was not applied", () => {
    const line = newsLine({ kind: "step", message: { ...step, ...more, loss: null, applied: false } }, false);
    expect(line).toContain("loss -");
    expect(line).toContain("not applied");
  });
});
