import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { crc32c, maskedCrc32c } from "../../coordinator/tensorboard/event.ts";
import { EventFile } from "../../coordinator/tensorboard/event-file.ts";
import type { Recipe } from "../../shared/config/schema.ts";
import { entryOf } from "../broadcast/support.ts";
import { temporary } from "../coordinator/support.ts";
import { madeEvents } from "./made-events.ts";

const recorded = JSON.parse(readFileSync(new URL("recorded/tensorboard.json", import.meta.url), "utf8")) as {
  sha256: string;
  scalars: Record<string, { count: number; last: [number, number, string] }>;
};

/** Payloads of a file of records, with both checksums verified. */
function payloads(bytes: Buffer): Buffer[] {
  const found: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at));
    expect(bytes.readUInt32LE(at + 8)).toBe(maskedCrc32c(bytes.subarray(at, at + 8)));
    const payload = bytes.subarray(at + 12, at + 12 + length);
    expect(bytes.readUInt32LE(at + 12 + length)).toBe(maskedCrc32c(payload));
    found.push(payload);
    at += 16 + length;
  }
  return found;
}

describe("event files for TensorBoard", () => {
  it("have the checksum of RFC 3720, appendix B.4", () => {
    expect(crc32c(Buffer.from("123456789"))).toBe(0xe3069283);
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new Uint8Array(32).fill(255))).toBe(0x62a8ab43);
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
  });

  it("are the bytes that the real TensorBoard has read: what it found is recorded", () => {
    const bytes = madeEvents();
    expect(createHash("sha256").update(bytes).digest("hex")).toBe(recorded.sha256);
    expect(payloads(bytes)).toHaveLength(1 + 300 + 1 + 10 + 1);
    // 300 losses, of which a fall-back to 200 takes 100 away, then 10 more; the others were not written again.
    expect(recorded.scalars["train/loss"]).toMatchObject({ count: 210, last: [210, 1767225732.5, "-210.0"] });
    expect(recorded.scalars["train/accuracy"]).toMatchObject({
      count: 200,
      last: [200, 1767225650, "0.6666666865348816"],
    });
    expect(recorded.scalars["big/step"]).toMatchObject({ count: 11, last: [5_000_000_000, 1767225800, "inf"] });
  });

  const recipe = { learningRates: [0.1, 0.2, 0.3] } as unknown as Recipe;

  it("hold one event for each final step, in a file of its own for each reign", async () => {
    const path = join(temporary(), "tensorboard");
    for (const term of [1, 2]) {
      const file = new EventFile(path, recipe, term, 1_767_225_600_000);
      file.final(entryOf(0), 1_767_225_601_000);
      file.final(entryOf(1), 1_767_225_602_000);
      await file.close();
      expect(file.dropped).toBe(0);
    }
    const names = readdirSync(path).sort();
    expect(names).toEqual([1, 2].map((term) => `events.out.tfevents.1767225600.lockstep.term-${term}`));
    const events = payloads(readFileSync(join(path, names[0]!)));
    expect(events).toHaveLength(3);
    expect(events[0]!.includes("brain.Event:2")).toBe(true);
    for (const tag of ["train/loss", "train/accuracy", "train/learning_rate", "train/gradient_norm"])
      expect(events[1]!.includes(tag), tag).toBe(true);
    // A pace needs two steps.
    expect(events.map((event) => event.includes("speed/images_per_second"))).toEqual([false, false, true]);
  });

  it("cost nothing but themselves where they cannot be written", async () => {
    const path = join(temporary(), "tensorboard");
    writeFileSync(path, "a file stands where the folder should be");
    const file = new EventFile(path, recipe, 1, 0);
    file.final(entryOf(0), 1000);
    await file.close();
    expect(file.dropped).toBe(2);
  });
});
