import { existsSync, utimesSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { Probe } from "../../deploy/up/probe.ts";
import { checkTraceFile, traceFileOf } from "../../deploy/up/trace-file.ts";
import { traceOf } from "../../shared/config/place.ts";
import { bitsOf, SMALL_SET, summaryOf, train } from "../up/runs.ts";
import { processesOf, type Scratch, scratch, until } from "../up/support.ts";
import { crossings, inside, readTrace, spansOf, workersIn } from "./support.ts";

/** Real processes, whose trace is read as any viewer would read it. */
const STEPS = 8;

let place: Scratch;
let data: string;
beforeAll(async () => {
  place = scratch();
  data = join(place.path, "data");
  await writeSynthetic(data, SMALL_SET);
});
afterAll(() => place[Symbol.dispose]());

const options = ["--batch", "40", "--steps", String(STEPS)];

describe("up --trace", () => {
  it("writes every worker's steps, phases, buckets and waits on one clock, and changes no bit", async () => {
    const [out, file] = [join(place.path, "traced"), join(place.path, "trace.json")];
    const plainOut = join(place.path, "plain");
    const plain = train(data, plainOut, 1, options);
    expect((await plain.ended).code, plain.err()).toBe(0);
    const run = train(data, out, 2, [...options, "--trace", file]);
    expect((await run.ended).code, run.err()).toBe(0);
    expect(bitsOf(summaryOf(out))).toEqual(bitsOf(summaryOf(plainOut)));
    expect(summaryOf(out)).toMatchObject({ trace: file });
    expect(summaryOf(plainOut).trace).toBeUndefined();
    expect(run.out()).toContain(`trace       ${file} (open it at https://ui.perfetto.dev)`);
    expect(existsSync(join(out, "trace"))).toBe(false);

    const trace = readTrace(file);
    const workers = workersIn(trace);
    expect([...workers.values()].sort()).toEqual(["worker-0", "worker-1"]);
    for (const [pid, name] of workers) {
      const phases = spansOf(trace, pid, "step");
      const steps = phases.filter((span) => /^step \d+$/.test(span.name) && span.args.outcome === undefined);
      // A worker that came into the first view has all of them; one that joined later has those since.
      expect(steps.at(-1)?.name, name).toBe(`step ${STEPS - 1}`);
      const first = Number(steps[0]!.args.step);
      expect(steps.map(({ args }) => args.step)).toEqual(Array.from({ length: STEPS - first }, (_, i) => first + i));
      for (const step of steps) {
        expect(step.args).toMatchObject({ loss: expect.any(Number), view: expect.stringMatching(/^1\.\d+$/) });
        const ofStep = (all: typeof phases) => all.filter(({ args }) => args.step === step.args.step);
        const parts = phases.filter((span) => span !== step && span.args.step === step.args.step && inside(span, step));
        expect(parts.map((span) => span.name)).toEqual(["compute", "exchange", "update"]);
        const [compute, exchange, update] = parts as [(typeof parts)[0], (typeof parts)[0], (typeof parts)[0]];
        const thread = ofStep(spansOf(trace, pid, "compute"));
        const named = (text: string) => thread.filter((span) => span.name === text && inside(span, step));
        const micro = named("forward + backward");
        expect(named("data").length).toBe(micro.length);
        for (const span of [...micro, ...named("data"), ...named("hash state")])
          expect(inside(span, compute), span.name).toBe(true);
        for (const text of ["examine sum", "update + hash"]) {
          expect(named(text), text).toHaveLength(1);
          expect(inside(named(text)[0]!, update), text).toBe(true);
        }
        for (const wait of ofStep(spansOf(trace, pid, "wait")).filter((span) => inside(span, step)))
          expect(inside(wait, exchange)).toBe(true);
      }
      const others = new Set([...workers.values()].filter((other) => other !== name));
      for (const category of ["wait", "sent", "received"])
        for (const { args } of spansOf(trace, pid, category)) expect(others, category).toContain(args.peer);
    }

    // Every step's shards were computed once, by one worker or the other.
    for (let step = 0; step < STEPS; step++) {
      const shards = [...workers.keys()].flatMap((pid) =>
        spansOf(trace, pid, "compute").filter((span) => span.name === "forward + backward" && span.args.step === step),
      );
      expect(new Set(shards.map(({ args }) => args.shard)).size, `step ${step}`).toBe(8);
    }

    // While both had shards, each sent the other its sums and got the other's.
    const [a, b] = [...workers.keys()] as [number, number];
    const last = (pid: number, category: string) =>
      spansOf(trace, pid, category).filter(({ args }) => args.step === STEPS - 1);
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      const key = ({ name, args }: (typeof trace.traceEvents)[0]) => `${name} ${args.firstBlock} ${args.bytes}`;
      expect(last(from, "sent").map(key).sort()).toEqual(last(to, "received").map(key).sort());
      expect(last(from, "sent").some(({ name }) => / partial$/.test(name))).toBe(true);
      expect(last(from, "sent").some(({ name }) => / reduced$/.test(name))).toBe(true);
      for (const received of last(to, "received")) {
        // On one clock nothing is received before it is sent.
        const sent = last(from, "sent").find((span) => key(span) === key(received))!;
        expect(received.ts! + received.dur!).toBeGreaterThan(sent.ts!);
      }
    }

    expect(crossings(trace)).toEqual([]);
    const { otherData } = trace;
    expect(otherData).toMatchObject({ newestSteps: 500, without: [], run: summaryOf(out).run });
    for (const worker of otherData.workers) {
      expect(worker).toMatchObject({ method: "same", offsetMillis: 0, droppedSteps: 0 });
      // One machine has one clock: whatever the round trips took, their estimate cannot be further off than it says.
      expect(Math.abs(worker.estimatedOffsetMillis!)).toBeLessThanOrEqual(worker.estimateUncertaintyMillis!);
      expect(worker.roundTrips).toBeGreaterThan(0);
    }
    const said = trace.traceEvents.filter(({ ph }) => ph === "i").map(({ name }) => name);
    expect(said.some((text) => text.startsWith("finishing"))).toBe(true);
    expect(trace.traceEvents.some(({ name }) => name === "checkpoint stored")).toBe(true);
    expect(trace.traceEvents.some(({ name }) => name === "copy for checkpoint")).toBe(true);
  });

  it("writes the newest steps of an interrupted run, and names who was killed and left nothing", async () => {
    const [out, file] = [join(place.path, "interrupted"), join(place.path, "interrupted.json")];
    const long = ["--batch", "40", "--steps", "4000"];
    const run = train(data, out, 2, [...long, "--trace", file, "--trace-steps", "5", "--worker-restarts", "0"]);
    const probe = Probe.ofDirectory(out, null);
    const computing = async () =>
      (await probe.status())?.workers.filter(({ state }) => state === "computing").map(({ name }) => name) ?? [];
    const step = async () => (await probe.status())?.step ?? 0;
    await until(async () => (await computing()).length === 2);
    process.kill(processesOf(out, "worker-1")[0]!, "SIGKILL");
    await until(async () => (await computing()).join() === "worker-0");
    const begun = await step();
    await until(async () => (await step()) > begun + 5);
    probe.close();
    run.signal("SIGINT");
    expect((await run.ended).code, run.err()).toBe(130);

    const trace = readTrace(file);
    expect(trace.otherData.without).toEqual(["worker-1"]);
    const [[pid]] = [...workersIn(trace)] as [[number, string]];
    const steps = spansOf(trace, pid, "step").filter(({ name }) => /^step \d+$/.test(name));
    expect(steps.length).toBeGreaterThan(0);
    expect(steps.length).toBeLessThanOrEqual(5);
    expect(trace.otherData.workers[0]!.droppedSteps).toBeGreaterThan(0);
    expect(crossings(trace)).toEqual([]);
  });

  it("refuses a file that cannot be written before anything starts", () => {
    const refusal = (file: string) => {
      try {
        checkTraceFile({ trace: { file, steps: 5 } });
      } catch (error) {
        return error;
      }
      return null;
    };
    expect(refusal(join(place.path, "new.json"))).toBeNull();
    for (const file of [join(place.path, "no", "such", "trace.json"), place.path])
      expect(refusal(file)).toMatchObject({ code: "LS_TRACE_FILE", exitCode: 2 });
    expect(() => traceOf({ traceSteps: 5 })).toThrow("--trace-steps needs --trace");
    expect(traceOf({ trace: "a.json" })).toEqual({ trace: { file: resolve("a.json"), steps: 500 } });
    expect(traceOf({})).toEqual({});
  });

  it("does not take the file of an earlier run for its own", () => {
    const file = join(place.path, "earlier.json");
    const found = () => traceFileOf({ trace: { file, steps: 5 } }, 2_000_000);
    expect(found()).toBeNull();
    writeFileSync(file, "{}");
    utimesSync(file, 1999, 1999);
    expect(found()).toBeNull();
    utimesSync(file, 2001, 2001);
    expect(found()).toBe(file);
    expect(traceFileOf({}, 0)).toBeNull();
  });
});
