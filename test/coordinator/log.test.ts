import { readFileSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { openLog, openTerminalLog } from "../../shared/process/log.ts";
import { noRoom } from "./simulated-checkpoints.ts";
import { temporary } from "./support.ts";

vi.mock("node:fs", async (original) => {
  const real = await original<typeof import("node:fs")>();
  return { ...real, writeSync: vi.fn(real.writeSync) };
});

test("a log on a full disk ends no process, and says what it lacks when there is room", async () => {
  const file = join(temporary(), "part.log");
  const log = openLog(file, { part: "x" });
  const { writeSync: real } = await vi.importActual<typeof import("node:fs")>("node:fs");
  log.info("before");
  let room = 20;
  vi.mocked(writeSync).mockImplementation(((descriptor: number, bytes: Buffer) => {
    if (room === 0) throw noRoom();
    const written = real(descriptor, bytes.subarray(0, room));
    room -= written;
    return written;
  }) as typeof writeSync);
  for (let i = 0; i < 1500; i++) log.info({ i }, "meanwhile");
  room = Number.POSITIVE_INFINITY;
  log.info("after");
  const lines = readFileSync(file, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(lines.map(({ msg }) => msg)).toEqual([
    "before",
    ...Array(999).fill("meanwhile"),
    "after",
    "lines are missing here",
  ]);
  expect(lines.at(-1)).toEqual({ dropped: 501, msg: "lines are missing here" });
  // The line that had been begun is whole, then the newest ones follow.
  expect(lines.slice(1, 4).map(({ i }) => i)).toEqual([0, 502, 503]);
  unlinkSync(file);
});

test("whoever sits at a terminal reads sentences", () => {
  const lines: string[] = [];
  const log = openTerminalLog((line) => lines.push(line));
  log.info({ connected: true }, "dialled the coordinator");
  log.warn({ view: "1.2", step: 7, why: "", peers: ["a"] }, "computes shards 0 to 3 of 8");
  expect(lines.map((line) => line.replace(/^\d\d:\d\d:\d\d/, "12:34:56"))).toEqual([
    "12:34:56  dialled the coordinator\n",
    '12:34:56  computes shards 0 to 3 of 8: view 1.2, step 7, peers ["a"]\n',
  ]);
});
