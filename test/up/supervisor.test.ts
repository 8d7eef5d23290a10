import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { prepareSecurity } from "../../coordinator/security/prepared.ts";
import type { Display } from "../../deploy/up/display.ts";
import { Interrupts } from "../../deploy/up/interrupts.ts";
import { LOCAL_NETWORK } from "../../deploy/up/network-options.ts";
import { flawOfPreparedLine } from "../../deploy/up/prepared-line.ts";
import { Supervisor, type SupervisorOptions } from "../../deploy/up/supervisor.ts";
import type { Config } from "../../shared/config/schema.ts";
import { lives, programFile, scratch } from "./support.ts";

interface Trial {
  readonly coordinator: string;
  readonly worker?: string;
  readonly workers?: number;
  readonly onStatus?: (interrupts: Interrupts) => void;
  readonly options?: Partial<SupervisorOptions>;
}

/** A run of stand-ins: a coordinator with the real control protocol, workers that only live. */
async function supervised(
  directory: string,
  { coordinator, worker = "", workers = 2, onStatus = () => {}, options: more = {} }: Trial,
) {
  mkdirSync(join(directory, "logs"), { recursive: true });
  const config = { runId: "fake", place: { workers, listen: "127.0.0.1" } } as unknown as Config;
  const interrupts = new Interrupts();
  const notes: string[] = [];
  const steps: number[] = [];
  const pids: number[] = [];
  const display: Display = {
    note: (text) => notes.push(text),
    status: ({ step }) => {
      steps.push(step);
      onStatus(interrupts);
    },
    end: () => {},
  };
  process.env.FAKE_COORDINATOR = coordinator;
  process.env.FAKE = worker === "" ? `leave-with:${join(directory, "summary.json")}` : worker;
  process.env.FAKE_LOG = join(directory, "starts");
  const program = (name: string) => [process.execPath, programFile(name)];
  const programs = { coordinator: program("coordinator.mjs"), worker: program("part.mjs") };
  const groups = { add: (pid: number) => pids.push(pid), remove: () => {} };
  const options = { directory, config, devices: ["cpu"], workerRestarts: 1, programs, ...more };
  try {
    const end = await new Supervisor(options, groups, display, interrupts).run(() => {});
    return { end, notes, steps, left: pids.filter(lives), starts: readFileSync(join(directory, "starts"), "utf8") };
  } finally {
    interrupts.close();
  }
}

describe("a run under supervision", () => {
  it("ends with the coordinator's summary, and nothing is left behind", async () => {
    using directory = scratch();
    const { end, steps, left, starts } = await supervised(directory.path, {
      coordinator: "done:2",
    });
    expect(end).toMatchObject({ kind: "ended", summary: { run: "fake", outcome: "done" } });
    expect(steps.length).toBeGreaterThanOrEqual(2);
    expect(left).toEqual([]);
    const joins = starts
      .split("\n")
      .filter((line) => line.includes(`--join ${join(directory.path, "endpoints.json")}`));
    expect(joins.map((line) => /--name (\S+)/.exec(line)?.[1]).sort()).toEqual(["worker-0", "worker-1"]);
  });

  it("survives a crash of the coordinator, whose second life is no second start", async () => {
    using directory = scratch();
    const { end, notes, left } = await supervised(directory.path, { coordinator: "crash:2", workers: 1 });
    expect(end).toMatchObject({ kind: "ended", summary: { outcome: "done" } });
    expect(notes.join("\n")).toContain("coordinator died (signal SIGKILL)");
    expect(notes.filter((note) => note.startsWith("starts "))).toContain("starts true");
    expect(left).toEqual([]);
  });

  it("fails with what the coordinator says", async () => {
    using directory = scratch();
    const { end, notes, left } = await supervised(directory.path, { coordinator: "fail", workers: 1 });
    expect(end).toMatchObject({ kind: "failed", error: { code: "LS_FAKE", message: "It did not work.", exitCode: 1 } });
    expect(notes.join("\n")).not.toContain("starting it again");
    expect(left).toEqual([]);
  });

  it("says where a line that was prepared leads nowhere", async () => {
    using directory = scratch();
    const prepared = join(directory.path, "prepared");
    await prepareSecurity(prepared, "train.example:7401");
    const options = { prepared, network: { ...LOCAL_NETWORK, tls: "always" as const } };
    const { notes } = await supervised(directory.path, { coordinator: "done:2", workers: 1, options });
    expect(notes.join("\n")).toMatch(/names port 7401, .* listens at 127\.0\.0\.1:\d+.* --ports 7400-7401/);
    expect(flawOfPreparedLine(prepared, "10.0.0.1:7401")).toBe(null);
  });

  it("fails when the coordinator ends without a word", async () => {
    using directory = scratch();
    const { end } = await supervised(directory.path, { coordinator: "mute", workers: 1 });
    expect(end).toMatchObject({ kind: "failed", error: { code: "LS_COORDINATOR" } });
  });

  it("fails at once, with the sentence and the exit code of its workers, when none of them can work here", async () => {
    using directory = scratch();
    const worker = "say:The native library does not load. [LS_RUNTIME],crash:3";
    const { end, left } = await supervised(directory.path, { coordinator: "done:1000", worker });
    expect(end).toMatchObject({
      kind: "failed",
      error: { code: "LS_RUNTIME", message: "The native library does not load.", exitCode: 3 },
    });
    expect(left).toEqual([]);
  });

  it("goes on without a worker that is given up", async () => {
    using directory = scratch();
    const { end, notes } = await supervised(directory.path, { coordinator: "done:8", worker: "crash:1", workers: 1 });
    expect(end).toMatchObject({ kind: "ended" });
    expect(notes.join("\n")).toContain("worker-0 died (exit code 1) and is given up after 1 restarts");
  });

  it("stops in order at the first interrupt", async () => {
    using directory = scratch();
    const { end, left } = await supervised(directory.path, {
      coordinator: "done:1000",
      onStatus: ({ first }) => first.abort(),
    });
    expect(end).toMatchObject({ kind: "ended", summary: { outcome: "stopped", reason: "interrupted" } });
    expect(left).toEqual([]);
  });

  it("ends at once at the second one", async () => {
    using directory = scratch();
    const onStatus = ({ first, second }: Interrupts) => {
      first.abort();
      second.abort();
    };
    const { end, left } = await supervised(directory.path, {
      coordinator: "done:1000",
      worker: "ignore-sigterm",
      onStatus,
    });
    expect(end).toEqual({ kind: "killed" });
    expect(left).toEqual([]);
  });
});
