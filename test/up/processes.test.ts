import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { getPriority } from "node:os";
import { join } from "node:path";
import { connect } from "nats";
import { describe, expect, it } from "vitest";
import { Keeper, type Over } from "../../deploy/up/keeper.ts";
import { startNats } from "../../deploy/up/nats.ts";
import { natsProgram } from "../../deploy/up/nats-program.ts";
import type { RestartPolicy } from "../../deploy/up/restart-policy.ts";
import { lives, programFile, scratch, until } from "./support.ts";

const groups = { add: () => {}, remove: () => {} };
const quick: RestartPolicy = { most: 3, window: 60_000, firstPause: 10, longestPause: 20, settled: 60_000 };

function keeperOf(directory: string, orders: string, policy = quick) {
  const notes: string[] = [];
  let resolve: (over: Over) => void;
  const over = new Promise<Over>((done) => {
    resolve = done;
  });
  const log = join(directory, "starts");
  const keeper = new Keeper(
    {
      name: "part",
      command: (starts) => [process.execPath, programFile("part.mjs"), `--starts=${starts}`],
      env: { FAKE: orders, FAKE_LOG: log },
      logFile: join(directory, "part.log"),
    },
    policy,
    groups,
    { note: (text) => notes.push(text), over: (end) => resolve(end) },
  );
  const starts = () => {
    try {
      return readFileSync(log, "utf8").trim().split("\n");
    } catch {
      return [];
    }
  };
  return { keeper, notes, over, starts };
}

describe("a process that is kept running", () => {
  it("is started again after a crash, and told that it was", async () => {
    using directory = scratch();
    const { keeper, notes, over, starts } = keeperOf(directory.path, `crash-first:${join(directory.path, "crashed")}`);
    keeper.start();
    await until(() => starts().length === 2);
    expect(starts().map((line) => line.split(" ")[2])).toEqual(["--starts=0", "--starts=1"]);
    expect(notes).toEqual(["part died (exit code 1); starting it again in 0.0 s"]);
    const { pid } = keeper;
    await keeper.stop(5000);
    expect([(await over).kind, lives(pid!), keeper.pid]).toEqual(["stopped", false, null]);
  });

  it("is given up when it crashes again and again, with its last words", async () => {
    using directory = scratch();
    const { keeper, notes, over, starts } = keeperOf(directory.path, "say:out of memory,crash:1");
    keeper.start();
    expect(await over).toEqual({ kind: "gaveUp", end: { code: 1, signal: null }, words: "out of memory" });
    expect(starts()).toHaveLength(4);
    expect(notes.at(-1)).toContain("given up after 3 restarts");
  });

  it.each([
    ["crash:0", { kind: "finished" }],
    [
      "say:No compiler. [LS_COMPILER],crash:3",
      { kind: "refused", end: { code: 3, signal: null }, words: "No compiler. [LS_COMPILER]" },
    ],
  ])("is not started again after %s", async (orders, expected) => {
    using directory = scratch();
    const { keeper, over, starts } = keeperOf(directory.path, orders);
    keeper.start();
    expect(await over).toEqual(expected);
    expect(starts()).toHaveLength(1);
  });

  it("is killed when it does not end within its grace, frozen or not", async () => {
    using directory = scratch();
    for (const frozen of [false, true]) {
      const { keeper, starts } = keeperOf(directory.path, "ignore-sigterm");
      keeper.start();
      const before = starts().length;
      await until(() => starts().length > before);
      if (frozen) keeper.signal("SIGSTOP");
      const { pid } = keeper;
      await keeper.stop(100);
      expect(lives(pid!)).toBe(false);
    }
  });

  it("that does not exist is refused at once", async () => {
    using directory = scratch();
    let over: Over | null = null;
    const spec = {
      name: "x",
      command: () => [join(directory.path, "none")],
      env: {},
      logFile: join(directory.path, "log"),
    };
    new Keeper(spec, quick, groups, { note: () => {}, over: (end) => (over = end) }).start();
    await until(() => over !== null);
    expect(over).toMatchObject({ kind: "refused" });
  });
});

describe("when up itself is killed", () => {
  it("its children end, also one that is frozen", async () => {
    using directory = scratch();
    const up = spawn(process.execPath, [programFile("abandoned.mjs"), join(directory.path, "log")], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [line] = await new Promise<string[]>((resolve) =>
      up.stdout.once("data", (data) => resolve(String(data).split("\n"))),
    );
    const pids = JSON.parse(line!) as number[];
    expect(pids.map(lives)).toEqual([true, true]);
    up.kill("SIGKILL");
    await until(() => pids.every((pid) => !lives(pid)));
  });
});

const program = natsProgram();
describe.skipIf(program === null)("a NATS server of our own (skipped where nats-server is not installed)", () => {
  it("listens on loopback alone, and comes back on its port after a crash", async () => {
    using directory = scratch();
    const notes: string[] = [];
    const { url, keeper } = await startNats(program!, join(directory.path, "nats.log"), groups, (text) =>
      notes.push(text),
    );
    try {
      expect(url).toMatch(/^nats:\/\/127\.0\.0\.1:\d+$/);
      const { pid } = keeper;
      keeper.signal("SIGKILL");
      await until(() => keeper.pid !== null && keeper.pid !== pid);
      const client = await connect({ servers: url, waitOnFirstConnect: true, reconnectTimeWait: 50 });
      expect(client.info?.jetstream ?? false).toBe(false);
      await client.close();
      expect(notes[0]).toContain("nats-server died (signal SIGKILL)");
    } finally {
      await keeper.stop(2000);
    }
  });

  it("runs in the background of whoever computes, with all its threads, as a session too", async () => {
    using directory = scratch();
    const nats = await startNats(program!, join(directory.path, "nats.log"), groups, () => {});
    const pid = nats.keeper.pid!;
    const priorities = () => readdirSync(`/proc/${pid}/task`).map((thread) => getPriority(Number(thread)));
    await until(() => priorities().every((priority) => priority === 19));
    const session = `/proc/${pid}/autogroup`;
    const group = existsSync(session) ? readFileSync(session, "utf8") : "";
    await nats.keeper.stop(5000);
    // Empty where the system does not schedule sessions.
    expect(group).toMatch(/^$|nice 19\n$/);
  });

  it("that cannot start says why", async () => {
    using directory = scratch();
    const log = join(directory.path, "nats.log");
    const failure = { code: "LS_NATS", exitCode: 3 };
    await expect(startNats("/bin/false", log, groups, () => {})).rejects.toMatchObject(failure);
  });
});
