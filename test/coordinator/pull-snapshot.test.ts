import { afterEach, expect, it } from "vitest";
import { pullSnapshot } from "../../coordinator/worker-calls.ts";
import { layoutOf } from "../../shared/model/layout.ts";
import { generator, startMember, type TestMember } from "../exchange/support.ts";

/** The coordinator pulls a snapshot from a real worker's server, at full speed or beside training. */
const layout = layoutOf([{ name: "kernel", shape: [800_003], role: "kernel" }], 1 << 20);
const tip = { step: 7, lineage: "l", stateHash: "h" };
let member: TestMember | null = null;
afterEach(() => member?.stop());

async function pulled(of: TestMember, step: number, paced: () => boolean): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const bytes = of.plan.snapshot.bytes;
  for await (const piece of pullSnapshot(of.address, "run", { ...tip, step }, bytes, paced)) pieces.push(piece);
  return Buffer.concat(pieces);
}

it.each([
  ["beside training", () => true],
  ["at full speed", () => false],
])("the whole snapshot comes, or LS_SNAPSHOT, %s", async (_how, paced) => {
  member = await startMember(0, { layout, shards: 8 });
  member.state.snapshot = 7;
  const { address, bytes } = member.plan.snapshot;
  const random = generator(3);
  const words = new Uint32Array(member.memory.buffer, address, bytes / 4);
  for (let i = 0; i < words.length; i++) words[i] = random() * 2 ** 32;
  const came = await pulled(member, 7, paced);
  expect(came.equals(Buffer.from(member.memory.buffer, address, bytes))).toBe(true);
  await expect(pulled(member, 8, paced)).rejects.toMatchObject({ code: "LS_SNAPSHOT" });
});

it("a pull that began beside training is as fast as it can be once that has ended", async () => {
  member = await startMember(0, { layout, shards: 8 });
  member.state.snapshot = 7;
  let asked = 0;
  await pulled(member, 7, () => ++asked < 3);
  // Once for the window, then after every piece.
  expect(asked).toBe(1 + Math.ceil(member.plan.snapshot.bytes / (1 << 20)));
});
