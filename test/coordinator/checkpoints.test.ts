import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bestOf, retained } from "../../coordinator/checkpoints/retention.ts";
import { CheckpointStore } from "../../coordinator/checkpoints/store.ts";
import type { CheckpointRecord } from "../../coordinator/records/record.ts";
import { LockstepError } from "../../shared/errors.ts";
import { Random } from "../simulation/clock.ts";
import { SimulatedCheckpoints } from "./simulated-checkpoints.ts";
import { Crash } from "./simulated-disk.ts";
import { codeOf, hex, stateOf } from "./support.ts";

/** A store over a disk in memory. */
function storeOn(
  files: SimulatedCheckpoints,
  recorded: readonly CheckpointRecord[] = [],
  term = 1,
  checkRuling = () => {},
) {
  const warnings: string[] = [];
  const warn = (line: string) => void warnings.push(line);
  const store = new CheckpointStore({ directory: "", run: "r", keep: 2, term, recorded, checkRuling, warn, files });
  const keep = async (step: number, loss: number | null = null) => {
    const { tip, facts, pieces } = await stateOf(step);
    const record = await store.write(tip, facts, loss, pieces());
    store.recorded(record);
    return record;
  };
  return { store, warnings, keep };
}

const manifestOf = (files: SimulatedCheckpoints) =>
  JSON.parse(files.files.get("manifest.json")!.content.toString()) as (CheckpointRecord & { best: boolean })[];
const tensorsOf = (files: SimulatedCheckpoints) =>
  files
    .names()
    .filter((name) => name.startsWith("step-"))
    .sort();

describe("writing a checkpoint", () => {
  test("is a temporary file, flushed, then renamed; it is in the manifest once it is recorded", async () => {
    const files = new SimulatedCheckpoints();
    const operations: string[] = [];
    files.operate = (name) => void operations.push(name);
    const { store } = storeOn(files);
    const { tip, facts, image, pieces } = await stateOf(3);
    const record = await store.write(tip, facts, 0.5, pieces());
    const order = operations.filter((name, i) => name !== operations[i - 1]);
    const part = "step-3.term-1.partial";
    expect(order).toEqual([`create ${part}`, `write ${part}`, `sync ${part}`, `rename ${part} step-3.safetensors`]);
    expect(files.names()).toEqual(["step-3.safetensors"]);
    store.recorded(record);
    expect(manifestOf(files)).toEqual([{ ...record, best: true }]);
    // A plain reader of the format: u64 length, JSON, tensors.
    const { content } = files.files.get(record.file)!;
    const length = Number(content.readBigUInt64LE());
    const header = JSON.parse(content.toString("utf8", 8, 8 + length));
    expect(content.subarray(8 + length).equals(image)).toBe(true);
    expect(header.weights).toEqual({ dtype: "F32", shape: [1024], data_offsets: [0, 4096] });
    expect(header.momentum).toEqual({ dtype: "F32", shape: [1024], data_offsets: [4096, 8192] });
    expect(header.__metadata__).toMatchObject({ run: "r", step: "3", lineage: tip.lineage, stateHash: tip.stateHash });
  });

  test("of pieces that are too few, too many or not the recorded state is refused, and leaves nothing", async () => {
    const files = new SimulatedCheckpoints();
    const { store } = storeOn(files);
    const { tip, facts, image } = await stateOf(3);
    const damaged = Buffer.from(image);
    damaged[5000]! ^= 1;
    for (const [bytes, words] of [
      [image.subarray(1), "8191 of 8192 bytes came"],
      [Buffer.concat([image, image]), "more than 8192 bytes came"],
      [damaged, "not the recorded state"],
    ] as const) {
      const pieces = (async function* () {
        yield bytes;
      })();
      await expect(store.write(tip, facts, null, pieces)).rejects.toMatchObject({
        code: "LS_CHECKPOINT_WRITE",
        message: expect.stringContaining(words),
      });
    }
    expect(files.names()).toEqual([]);
  });

  test("on a full disk fails with its reason, leaves nothing half written, and works again when there is room", async () => {
    const files = new SimulatedCheckpoints();
    const { store, keep, warnings } = storeOn(files);
    const first = await keep(3, 0.1);
    files.size = files.used + 5000;
    const { tip, facts, pieces } = await stateOf(6);
    const failed = store.write(tip, facts, null, pieces());
    await expect(failed).rejects.toMatchObject({
      code: "LS_CHECKPOINT_WRITE",
      message: expect.stringContaining("ENOSPC"),
    });
    expect(tensorsOf(files)).toEqual([first.file]);
    expect(await store.usable(3)).toBe(true);
    files.size = Number.POSITIVE_INFINITY;
    await keep(6, 1);
    expect(manifestOf(files).map(({ tip: { step } }) => step)).toEqual([3, 6]);
    // Without room for the manifest alone the checkpoint still counts: the records name it.
    files.size = files.used + first.bytes;
    await keep(9, 1);
    expect(warnings).toEqual([expect.stringMatching(/^The manifest .* ENOSPC/)]);
    expect((await store.newestUsable())?.tip.step).toBe(9);
  });

  test("by a coordinator that does not rule any more replaces nothing", async () => {
    const files = new SimulatedCheckpoints();
    const superseded = () => {
      throw new LockstepError("LS_SUPERSEDED", "Somebody else rules.");
    };
    const { store } = storeOn(files, [], 1, superseded);
    const { tip, facts, pieces } = await stateOf(3);
    expect(await codeOf(() => store.write(tip, facts, null, pieces()))).toBe("LS_SUPERSEDED");
    expect(files.names()).toEqual([]);
  });

  test("interrupted at any operation: the next start cleans up, and has the newest one that was recorded", async () => {
    const operations: string[] = [];
    const play = async (crashAt: number) => {
      const files = new SimulatedCheckpoints();
      const { store, keep } = storeOn(files);
      const records = [await keep(3), await keep(6)];
      operations.length = 0;
      files.operate = (name) => {
        if (operations.push(name) > crashAt) throw new Crash();
      };
      const { tip, facts, pieces } = await stateOf(9);
      const record = await store.write(tip, facts, null, pieces()).catch(() => null);
      if (record !== null) {
        // Its record is durable from here on.
        records.push(record);
        try {
          store.recorded(record);
        } catch {}
      }
      files.operate = () => {};
      const random = new Random(crashAt);
      files.afterCrash(() => random.next());
      const next = storeOn(files, records, 2);
      expect((await next.store.newestUsable())?.tip.step, operations.at(-1)).toBe(record === null ? 6 : 9);
      expect(next.warnings).toEqual([]);
      expect(files.names().filter((name) => name.endsWith(".partial"))).toEqual([]);
      expect(tensorsOf(files)).toEqual(
        records
          .slice(-2)
          .map(({ file }) => file)
          .sort(),
      );
      return manifestOf(files).map(({ tip: { step } }) => step);
    };
    expect(await play(Number.POSITIVE_INFINITY)).toEqual([6, 9]);
    const all = operations.length;
    for (let at = 0; at < all; at++) await play(at);
  });
});

describe("a checkpoint that is torn or was changed", () => {
  /** Every region of the file: the header's length, its JSON, first, middle and last byte of the tensors, the length itself. */
  const flip = (at: (content: Buffer) => number) => (content: Buffer) => {
    content[at(content)]! ^= 1;
    return content;
  };
  const HARMS: Record<string, (content: Buffer) => Buffer> = {
    "header's length": flip(() => 0),
    "header's first byte": flip(() => 8),
    "header's last byte": flip((content) => 7 + Number(content.readBigUInt64LE())),
    "first byte of the tensors": flip((content) => 8 + Number(content.readBigUInt64LE())),
    "middle of the tensors": flip((content) => content.length - 4096),
    "last byte": flip((content) => content.length - 1),
    "one byte less": (content) => content.subarray(0, -1),
    "one byte more": (content) => Buffer.concat([content, Buffer.alloc(1)]),
    "nothing left": () => Buffer.alloc(0),
    "zeros behind a crash": (content) => content.fill(0, content.length >> 1),
  };

  test.each(Object.entries(HARMS))("%s: it is refused in one line and the one before it is used", async (_, harm) => {
    const files = new SimulatedCheckpoints();
    const { store, keep, warnings } = storeOn(files);
    await keep(3);
    const { file } = await keep(6);
    files.tamper(file, harm);
    const [newest, again] = await Promise.all([store.newestUsable(), store.usable(6)]);
    expect([newest?.tip.step, again, store.read(6)]).toEqual([3, false, null]);
    expect(warnings).toEqual([
      expect.stringMatching(/^Checkpoint step-6\.safetensors is not used: .*\. step-3\.safetensors is\.$/),
    ]);
    expect(manifestOf(files).map(({ tip }) => tip.step)).toEqual([3]);
    // The step is reached again, and its checkpoint is sound.
    await keep(6);
    expect((await store.newestUsable())?.tip.step).toBe(6);
  });

  test("is found by the next coordinator as well; with none left it says so", async () => {
    const files = new SimulatedCheckpoints();
    const first = storeOn(files);
    const records = [await first.keep(3), await first.keep(6)];
    for (const { file } of records) files.tamper(file, (content) => content.fill(7, 100, 101));
    const next = storeOn(files, records, 2);
    expect(await next.store.newestUsable()).toBeNull();
    expect(next.warnings).toEqual([
      expect.stringContaining("step-6"),
      expect.stringContaining("There is none before it"),
    ]);
  });

  test("a manifest that was changed decides nothing: it is written anew from the records", async () => {
    const files = new SimulatedCheckpoints();
    const first = storeOn(files);
    const records = [await first.keep(3), await first.keep(6)];
    const before = manifestOf(files);
    for (const harm of [() => Buffer.from("{"), () => Buffer.from("[]"), () => Buffer.alloc(0)]) {
      files.tamper("manifest.json", harm);
      const next = storeOn(files, records, 2);
      expect((await next.store.newestUsable())?.tip.step).toBe(6);
      expect(manifestOf(files)).toEqual(before);
    }
  });
});

describe("what is kept", () => {
  test("the newest two and the one of the lowest loss, on the disk and in the manifest", async () => {
    const files = new SimulatedCheckpoints();
    const { keep } = storeOn(files);
    const seen: string[] = [];
    for (const [step, loss] of [
      [1, 3],
      [2, 1],
      [3, 2],
      [4, null],
      [5, 4],
      [6, 0.5],
      [7, 2],
      [8, 2],
    ] as const) {
      await keep(step, loss);
      const best = manifestOf(files).find((record) => record.best)!.tip.step;
      seen.push(
        `${tensorsOf(files)
          .map((name) => /\d+/.exec(name)![0])
          .join()} best ${best}`,
      );
    }
    expect(seen).toEqual([
      "1 best 1",
      "1,2 best 2",
      "2,3 best 2",
      "2,3,4 best 2",
      "2,4,5 best 2",
      "5,6 best 6",
      "6,7 best 6",
      "6,7,8 best 6",
    ]);
  });

  test("by any losses: at most one more than the newest, and none better is thrown away", () => {
    const record = (loss: number | null, step: number): CheckpointRecord => {
      const tip = { step, lineage: hex(step, 64), stateHash: hex(step, 16) };
      return { tip, file: `${step}`, sha256: "", bytes: 0, loss };
    };
    fc.assert(
      fc.property(
        fc.array(fc.option(fc.integer({ min: 0, max: 5 }))),
        fc.integer({ min: 1, max: 4 }),
        (losses, keep) => {
          const all = losses.map(record);
          const kept = retained(all, keep);
          expect(kept.slice(-keep)).toEqual(all.slice(-keep));
          expect(kept.length).toBeLessThanOrEqual(keep + 1);
          const lowest = Math.min(...losses.map((loss) => loss ?? Number.POSITIVE_INFINITY));
          if (Number.isFinite(lowest)) expect(kept).toContain(bestOf(all));
          expect(bestOf(all)?.loss ?? Number.POSITIVE_INFINITY).toBe(lowest);
        },
      ),
    );
  });
});
