import { createServer, type Socket } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { layoutOf } from "../../shared/model/layout.ts";
import { memberClient } from "../../shared/rpc/clients.ts";
import { grpc } from "../../shared/rpc/service.ts";
import { pullState } from "../../worker/exchange/pull-state.ts";
import { PIECE_BYTES, type StateSource, serveState } from "../../worker/exchange/serve-state.ts";
import { CuttableWire } from "./fake-peer.ts";
import { generator, type MemberOptions, startMember, type TestMember } from "./support.ts";

/** A state is pulled from several members at once; it comes whole and of one step, or not at all. */

// Three megabytes of weights and as much momentum: several ranges, and not whole pieces.
const layout = layoutOf([{ name: "kernel", shape: [800_003], role: "kernel" }], 1 << 20);
const options: MemberOptions = { layout, shards: 8 };
const stops: (() => void)[] = [];

afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

async function member(index: number, live: number | null): Promise<TestMember> {
  const started = await startMember(index, options);
  stops.push(() => started.stop());
  started.state.live = live;
  if (live !== null) {
    const random = generator(live);
    const words = new Uint32Array(started.memory.buffer, started.plan.state.address, started.plan.state.bytes / 4);
    for (let i = 0; i < words.length; i++) words[i] = random() * 2 ** 32;
  }
  return started;
}

const image = ({ memory, plan }: TestMember) => Buffer.from(memory.buffer, plan.state.address, plan.state.bytes);

const pull = (into: TestMember, peers: readonly string[], signal = new AbortController().signal, stallMillis = 2000) =>
  pullState({
    run: "run",
    step: 5,
    peers,
    arithmetic: into.arithmetic,
    into: into.plan.state.address,
    bytes: into.plan.state.bytes,
    signal,
    stallMillis,
  });

/** A place that accepts connections and never says anything, as a frozen process does. */
async function silentAddress(): Promise<string> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => sockets.push(socket.on("error", () => {})));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stops.push(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  const bound = server.address();
  return `127.0.0.1:${typeof bound === "object" && bound !== null ? bound.port : 0}`;
}

describe("pulling a state", () => {
  it("takes it from several members at once, with lineage and entries", async () => {
    const [me, a, b] = [await member(0, null), await member(1, 5), await member(2, 5)];
    expect(await pull(me, [a.address, b.address])).toEqual({ lineage: "ab".repeat(32), entries: [] });
    expect(image(me).equals(image(a))).toBe(true);
  });

  it("goes on with the others when one dies, is silent, or has moved on", async () => {
    const [me, whole, moved] = [await member(0, null), await member(1, 5), await member(2, 5)];
    moved.state.live = 6;
    const dying = await member(3, 5);
    const wire = new CuttableWire(dying.address);
    await wire.start();
    stops.push(() => wire.stop());
    wire.cutAfter(PIECE_BYTES * 1.5);
    const peers = [await silentAddress(), moved.address, wire.address, whole.address];
    expect(await pull(me, peers, undefined, 300)).not.toBeNull();
    expect(image(me).equals(image(whole))).toBe(true);
  });

  it("gives up when nobody has that step, and when there is nobody", async () => {
    const [me, a] = [await member(0, null), await member(1, 6)];
    expect(await pull(me, [a.address])).toBeNull();
    expect(await pull(me, [])).toBeNull();
  });

  it("ends at once when it is not wanted any more", async () => {
    const me = await member(0, null);
    const abort = new AbortController();
    const pulling = pull(me, [await silentAddress()], abort.signal, 600_000);
    abort.abort();
    expect(await pulling).toBeNull();
  });

  it("refuses bytes that are not what the sender hashed", async () => {
    const [me, sound] = [await member(0, null), await member(1, 5)];
    const broken = await member(2, 5);
    // Its hash is taken from other bytes than it sends: a flip between the two.
    const { xxh64 } = broken.arithmetic;
    Object.assign(broken.arithmetic, { xxh64: (address: number, bytes: number) => xxh64(address, bytes) ^ 1n });
    expect(await pull(me, [broken.address])).toBeNull();
    expect(await pull(me, [broken.address, sound.address])).not.toBeNull();
    expect(image(me).equals(image(sound))).toBe(true);
  });

  it("of another run, or beyond the image, is refused with a coded status", async () => {
    const a = await member(1, 5);
    const client = memberClient(a.address);
    const statusOf = (request: Parameters<typeof client.pullState>[0]) =>
      new Promise<grpc.StatusObject>((resolve) => {
        const call = client.pullState(request);
        call.on("data", () => {});
        call.on("error", () => {});
        call.on("status", resolve);
      });
    const range = { run: "run", step: 5, from: 0, to: 100, snapshot: false };
    expect((await statusOf(range)).code).toBe(grpc.status.OK);
    expect(await statusOf({ ...range, run: "other" })).toMatchObject({
      details: expect.stringMatching(/^LS_WRONG_RUN/),
    });
    expect(await statusOf({ ...range, step: 4 })).toMatchObject({ details: expect.stringMatching(/^LS_STATE_MOVED/) });
    expect(await statusOf({ ...range, snapshot: true })).toMatchObject({
      details: expect.stringMatching(/^LS_STATE_MOVED/),
    });
    for (const [from, to] of [
      [-1, 5],
      [10, 5],
      [0, 1e12],
      [0.5, 5],
    ] as const) {
      expect(await statusOf({ ...range, from, to })).toMatchObject({ code: grpc.status.OUT_OF_RANGE });
    }
    client.close();
  });

  it("serves no byte once the state has moved, not even of a piece that was being copied", async () => {
    const a = await member(1, 5);
    const written: number[] = [];
    let asked = 0;
    const source: StateSource = {
      arithmetic: a.arithmetic,
      live: a.plan.state.address,
      snapshot: a.plan.snapshot.address,
      bytes: a.plan.state.bytes,
      // The update of the next step begins while the second piece is copied.
      liveStep: () => (++asked <= 3 ? 5 : null),
      snapshotStep: () => null,
    };
    const sink = {
      cancelled: false,
      on: () => {},
      write: (buffer: Buffer, taken: () => void) => {
        written.push(buffer.length);
        taken();
      },
    };
    const range = { step: 5, from: 0, to: a.plan.state.bytes, snapshot: false };
    expect(await serveState(sink, source, range)).toBe("moved");
    expect(written.length).toBe(1);
  });
});
