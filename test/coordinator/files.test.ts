import { existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { replaceFile, withRoom } from "../../coordinator/files/durable.ts";
import { LineFile } from "../../coordinator/files/line-file.ts";
import { StepsFile } from "../../coordinator/files/steps-file.ts";
import { type DurableRecord, finalRecord } from "../../coordinator/records/record.ts";
import { resolved } from "../config/support.ts";
import { noRoom } from "./simulated-checkpoints.ts";
import { entry, hex, temporary } from "./support.ts";

describe("a file of lines", () => {
  test("cuts off the torn line of a crash and goes on behind it", async () => {
    const path = join(temporary(), "lines");
    writeFileSync(path, `${"x".repeat(100_000)}\nwhole\ntorn without an en`);
    const file = new LineFile(path);
    file.write("next");
    await file.close();
    expect(readFileSync(path, "utf8").split("\n").slice(1)).toEqual(["whole", "next", ""]);
    truncateSync(path, 10);
    await new LineFile(path).close();
    expect(readFileSync(path, "utf8")).toBe("");
  });

  test("on a full disk holds nobody up, drops the oldest and counts them, and ends a line that it began", async () => {
    let room = 8;
    let text = "";
    const write = async (bytes: Uint8Array) => {
      if (room === 0) throw noRoom();
      const piece = bytes.subarray(0, room);
      room -= piece.length;
      text += Buffer.from(piece).toString();
      return { bytesWritten: piece.length };
    };
    const open = async () => ({ write, close: async () => {} }) as never;
    const file = new LineFile(join(temporary(), "lines"), { most: 3, retryEvery: 1, open });
    file.write("begun-before");
    await expect.poll(() => room).toBe(0);
    for (const line of ["a", "b", "c", "d", "e"]) file.write(line);
    expect([text, file.dropped]).toEqual(["begun-be", 2]);
    room = 1000;
    await file.close();
    expect(text).toBe("begun-before\nc\nd\ne\n");
    file.write("late");
    expect(file.dropped).toBe(3);
  });
});

describe("steps.ndjson", () => {
  const { recipe } = resolved({ shards: 2 }).config;
  const tip = (step: number) => ({ step, lineage: hex(step, 64), stateHash: hex(step, 16) });
  const final = (step: number, time = step) => finalRecord(entry(step), time);
  const stepsIn = (path: string) =>
    readFileSync(path, "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line).step);

  async function reconciled(records: readonly DurableRecord[], before: (path: string) => void) {
    const path = join(temporary(), "steps.ndjson");
    before(path);
    const file = new StepsFile(path, recipe);
    await file.reconcile(() => records);
    file.write(entry(90), 0);
    await file.close();
    return path;
  }

  test("follows the records wherever a crash, an older line or a stranger made it differ; one that agrees is not touched", async () => {
    const records = [final(0), final(1), final(2), final(3), { kind: "truncate", tip: tip(2) } as const, final(2, 50)];
    const good = await reconciled(records, () => {});
    expect(stepsIn(good)).toEqual([0, 1, 2, 90]);
    const text = readFileSync(good, "utf8").split("\n").slice(0, 3);
    const whole = `${text.join("\n")}\n`;
    for (const wrong of ["", whole.slice(0, -30), `${whole}${text[2]}\n`, `${text[0]}\n${text[2]}\n`, "not a step\n"]) {
      expect(readFileSync(await reconciled(records, (path) => writeFileSync(path, wrong)), "utf8")).toBe(
        readFileSync(good, "utf8"),
      );
    }
    const marked = whole.replaceAll('"step"', '"STEP"');
    expect(readFileSync(await reconciled(records, (path) => writeFileSync(path, marked)), "utf8")).toContain('"STEP"');
  });

  test("of a fork begins at its parent's step, also after a fall-back", async () => {
    const records = [
      ...[{ kind: "truncate", tip: tip(7) } as const, final(7), final(8), final(9)],
      ...[{ kind: "truncate", tip: tip(8) } as const, final(8, 50)],
    ];
    expect(stepsIn(await reconciled(records, () => {}))).toEqual([7, 8, 90]);
  });
});

describe("a small file that is replaced", () => {
  test("is the old or the new one, and leaves nothing else where it cannot be written", () => {
    const path = join(temporary(), "file.json");
    replaceFile(path, "one");
    replaceFile(path, "two");
    expect([readFileSync(path, "utf8"), existsSync(`${path}.partial`)]).toEqual(["two", false]);
    const folder = join(temporary(), "folder");
    mkdirSync(join(folder, "inside"), { recursive: true });
    expect(() => replaceFile(folder, "three")).toThrow();
    expect([existsSync(join(folder, "inside")), existsSync(`${folder}.partial`)]).toEqual([true, false]);
  });

  test("waits for room on a full disk, for its time, and for nothing else", async () => {
    let tries = 0;
    const write = (failures: number, error: () => Error) => () => {
      tries += 1;
      if (tries <= failures) throw error();
    };
    await withRoom(10_000, write(3, noRoom), 1);
    expect(tries).toBe(4);
    tries = 0;
    await expect(withRoom(0, write(9, noRoom), 1)).rejects.toMatchObject({ code: "ENOSPC" });
    tries = 0;
    await expect(
      withRoom(
        10_000,
        write(9, () => new Error("EACCES")),
        1,
      ),
    ).rejects.toThrow("EACCES");
    expect(tries).toBe(1);
  });
});
