import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { CheckpointStore } from "../../coordinator/checkpoints/store.ts";
import { type CoordinatorHandlers, CoordinatorServer } from "../../coordinator/server.ts";
import { Sessions } from "../../coordinator/sessions.ts";
import { coordinatorClient, unary } from "../../shared/rpc/clients.ts";
import { bindingOf, grpc } from "../../shared/rpc/service.ts";
import { fetchCheckpoint } from "../../worker/coordinator-calls.ts";
import { stateOf, temporary } from "./support.ts";

/** A coordinator's service on loopback with one checkpoint, of step 3. */
async function served(more: Partial<CoordinatorHandlers> = {}) {
  const directory = temporary();
  const warnings: string[] = [];
  const checkpoints = new CheckpointStore({
    ...{ directory, run: "r", keep: 2, term: 1, recorded: [], checkRuling() {} },
    warn: (line) => warnings.push(line),
  });
  const { tip, facts, image, pieces } = await stateOf(3);
  checkpoints.recorded(await checkpoints.write(tip, facts, 1, pieces()));
  const events = { onHello() {}, onMessage() {}, onEnd() {}, onRefused() {} };
  const server = new CoordinatorServer({
    ...{ run: "r", sessions: new Sessions(2, events), checkpoints, status: () => ({}), stop() {} },
    ...{ inject: () => "", predictions() {}, data: {} as never, dialBack: {} as never },
    ...more,
  });
  const address = await server.start(bindingOf("127.0.0.1"));
  const client = coordinatorClient(address);
  onTestFinished(() => {
    client.close();
    server.close();
  });
  return { client, checkpoints, file: join(directory, "step-3.safetensors"), warnings, tip, image };
}

const statusOf = async (call: AsyncIterable<Buffer>) => {
  try {
    for await (const _ of call);
    return "ended well";
  } catch (error) {
    const { code, details } = error as grpc.ServiceError;
    return `${grpc.status[code]} ${details}`;
  }
};

describe("a checkpoint", () => {
  test("comes whole to a worker that asks for it", async () => {
    const { client, tip, image } = await served();
    expect(Buffer.from(await fetchCheckpoint(() => client, "r", tip, image.length)).equals(image)).toBe(true);
  });

  test("that is not there, of another run, or not sound any more is refused with a status that names it", async () => {
    const { client, file, warnings, tip, image } = await served();
    const refused = /^NOT_FOUND LS_NO_CHECKPOINT: There is no sound checkpoint of step \d\.$/;
    expect(await statusOf(client.pullCheckpoint({ run: "r", step: 4 }))).toMatch(refused);
    expect(await statusOf(client.pullCheckpoint({ run: "other", step: 3 }))).toMatch(refused);
    appendFileSync(file, "x");
    expect(await statusOf(client.pullCheckpoint({ run: "r", step: 3 }))).toMatch(refused);
    expect(warnings).toHaveLength(1);
    await expect(fetchCheckpoint(() => client, "r", tip, image.length, 1)).rejects.toMatchObject({
      code: "LS_CHECKPOINT",
      message: expect.stringContaining("LS_NO_CHECKPOINT"),
    });
  });

  test("that cannot be read to its end ends with a status, not with a short file", async () => {
    const torn = async function* () {
      yield Buffer.alloc(10);
      throw Object.assign(new Error("EIO: i/o error, read"), { code: "EIO" });
    };
    const checkpoints = { usable: async () => true, read: torn } as unknown as CheckpointStore;
    const { client } = await served({ checkpoints });
    expect(await statusOf(client.pullCheckpoint({ run: "r", step: 3 }))).toMatch(
      /^UNAVAILABLE LS_CHECKPOINT_READ.*EIO/,
    );
  });

  test("of another size than the model's state is not taken", async () => {
    const { client, tip, image } = await served();
    await expect(fetchCheckpoint(() => client, "r", tip, image.length + 4096, 1)).rejects.toMatchObject({
      message: expect.stringContaining(`it holds ${image.length} bytes of state instead of ${image.length + 4096}`),
    });
  });
});

test("control does what it knows, and says what it does not", async () => {
  const stops: string[] = [];
  const { client } = await served({ stop: (reason) => stops.push(reason), inject: (to, fault) => `${fault}>${to}` });
  const control = (action: string) =>
    unary((callback) => client.control({ action, target: "w", detail: "d" }, {}, callback));
  expect(await control("inject")).toEqual({ ok: true, message: "d>w" });
  expect(await control("stop")).toMatchObject({ ok: true });
  expect(stops).toEqual(["d"]);
  await expect(control("dance")).rejects.toMatchObject({
    code: grpc.status.FAILED_PRECONDITION,
    details: expect.stringContaining("LS_USAGE"),
  });
});
