import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LockstepError } from "../../shared/errors.ts";
import type { CoordinatorMessage, WorkerMessage } from "../../shared/protocol/messages.ts";
import {
  type Envelope,
  parseCoordinatorMessage,
  parseEntries,
  parseWorkerMessage,
  wireCoordinatorMessage,
  wireWorkerMessage,
} from "../../shared/rpc/convert.ts";
import { coordinatorService, memberService } from "../../shared/rpc/service.ts";
import { resolved } from "../config/support.ts";

const configForTests = resolved().config;

/** Every message survives the way through protobuf's bytes; whatever else comes in is refused with a code. */

const { Session } = coordinatorService as unknown as Record<"Session", (typeof coordinatorService)[string]>;
const throughWire = {
  worker: (message: WorkerMessage): WorkerMessage =>
    parseWorkerMessage(Session.requestDeserialize(Session.requestSerialize(wireWorkerMessage(message)))),
  coordinator: (message: CoordinatorMessage): CoordinatorMessage =>
    parseCoordinatorMessage(Session.responseDeserialize(Session.responseSerialize(wireCoordinatorMessage(message)))),
};

const hex = (digits: number) => fc.stringMatching(new RegExp(`^[0-9a-f]{${digits}}$`));
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const count = fc.double({ min: 0, max: 2 ** 53, noNaN: true });
const text = fc.string({ unit: "grapheme", maxLength: 30 });
const incarnation = hex(16);
const viewId = fc.record({ term: u32, number: u32 });
const maybeViewId = fc.option(viewId);
const lineage = fc.oneof(hex(64), fc.constant(""));
const stateHash = fc.oneof(hex(16), fc.constant(""));
const tip = fc.record({ step: u32, lineage, stateHash });
const address = fc.integer({ min: 1, max: 65535 }).map((port) => `127.0.0.1:${port}`);
const range = fc.tuple(u32, u32).map(([a, b]) => ({ from: Math.min(a, b), to: Math.max(a, b) }));
const member = fc.record({
  incarnation,
  address,
  shards: range,
  entry: fc.constantFrom("level", "lagging", "joining"),
});
const view = fc.record({
  id: viewId,
  predecessor: maybeViewId,
  kind: fc.constantFrom("train", "stop"),
  members: fc.array(member, { maxLength: 5 }),
});
const shard = fc.record({
  shard: u32,
  idsDigest: hex(16),
  samples: u32,
  correct: u32,
  gradientDigest: hex(16),
  by: incarnation,
});
const entry = fc.record({
  step: u32,
  view: viewId,
  lineage,
  stateHash,
  shards: fc.array(shard, { maxLength: 8 }),
  loss: fc.double(),
  gradientNorm: fc.double(),
  applied: fc.boolean(),
});
const entries = fc.array(entry, { maxLength: 3 });
const standing = fc.record({ tip, whole: fc.boolean(), view: maybeViewId, entries });
const progress = fc.record({
  view: maybeViewId,
  step: u32,
  phase: fc.constantFrom("loading", "waiting", "compute", "exchange", "update", "idle", "evaluate"),
  stepMillis: count,
  level: fc.boolean(),
  shardMillis: count,
  images: count,
  residentBytes: count,
  peers: fc.array(fc.record({ incarnation, owed: count, received: count }), { maxLength: 4 }),
});
const facts = fc.record({
  parameters: count,
  weightBytes: count,
  stateBytes: count,
  sections: fc.array(fc.record({ name: text, floats: count }), { maxLength: 4 }),
});
const state = fc.record({ incarnation, level: fc.boolean(), lineage, stateHash });
const labels = fc.dictionary(fc.stringMatching(/^[a-z]{1,10}$/), text, { maxKeys: 5, noNullPrototype: true });
const fingerprint = fc.array(hex(16), { minLength: 1, maxLength: 3 });

const kind = <K extends string>(name: K, fields: Record<string, fc.Arbitrary<unknown>>) =>
  fc.record({ kind: fc.constant(name), ...fields });

const workerMessages: Record<WorkerMessage["kind"], fc.Arbitrary<unknown>> = {
  hello: kind("hello", {
    incarnation,
    name: text,
    host: text,
    pid: u32,
    version: text,
    address,
    httpAddress: address,
    labels,
    promised: maybeViewId,
    standing: fc.option(standing),
  }),
  ready: kind("ready", { fingerprint, root: text, standing, facts }),
  heartbeat: kind("heartbeat", { progress }),
  answer: kind("answer", { id: viewId, standing }),
  refuse: kind("refuse", { id: viewId, promised: viewId }),
  switched: kind("switched", { id: viewId, step: u32 }),
  final: kind("final", { entries }),
  mismatch: kind("mismatch", {
    view: viewId,
    step: u32,
    states: fc.array(state, { maxLength: 4 }),
    corruptFrom: fc.option(incarnation),
  }),
  lost: kind("lost", { view: viewId, peer: incarnation, refused: fc.boolean() }),
  idle: kind("idle", { view: viewId, standing }),
  restored: kind("restored", { standing }),
  snapshot: kind("snapshot", { tip, bytes: count }),
  evaluated: kind("evaluated", { batch: u32 }),
  held: kind("held", { tip, bytes: count }),
  validated: kind("validated", { step: u32, batch: u32, samples: u32, correct: u32, loss: fc.double() }),
  leaving: kind("leaving", { reason: text }),
  failed: kind("failed", { code: text, message: text }),
  dialled: kind("dialled", { incarnation, failure: text }),
};

const coordinatorMessages: Record<CoordinatorMessage["kind"], fc.Arbitrary<unknown>> = {
  welcome: kind("welcome", { term: u32, config: fc.constant(configForTests), fingerprint: fc.option(fingerprint) }),
  rejected: kind("rejected", { code: text, message: text }),
  heartbeat: kind("heartbeat", { term: u32, recorded: u32 }),
  prepare: kind("prepare", { id: viewId }),
  install: kind("install", { view, base: tip }),
  plan: kind("plan", { view }),
  restore: kind("restore", { tip }),
  snapshot: kind("snapshot", {}),
  discard: kind("discard", { step: u32 }),
  evaluate: kind("evaluate", { batches: fc.array(u32, { maxLength: 9 }) }),
  validate: kind("validate", { step: u32, batch: u32 }),
  validationDone: kind("validationDone", { step: u32 }),
  release: kind("release", { reason: text }),
  inject: kind("inject", { fault: text }),
  dial: kind("dial", { incarnation, address: fc.constant("[fd00::1]:7400") }),
  access: kind("access", {
    revoked: fc.array(fc.stringMatching(/^[0-9a-f]{16}$/), { maxLength: 9 }),
    nats: fc.option(fc.record({ user: text, password: text, authority: text })),
    httpToken: text,
  }),
};

/** The code of a refusal; null where the envelope is taken. Anything but a coded error is a failure. */
function refusal(parse: () => unknown): string | null {
  try {
    parse();
    return null;
  } catch (error) {
    if (error instanceof LockstepError) return error.code;
    throw error;
  }
}

describe("worker messages", () => {
  it.each(Object.entries(workerMessages))("of kind %s come back as they were", (_, messages) => {
    fc.assert(
      fc.property(messages as fc.Arbitrary<WorkerMessage>, (message) => {
        expect(throughWire.worker(message)).toEqual(message);
      }),
    );
  });
});

describe("coordinator messages", () => {
  it.each(Object.entries(coordinatorMessages))("of kind %s come back as they were", (_, messages) => {
    fc.assert(
      fc.property(messages as fc.Arbitrary<CoordinatorMessage>, (message) => {
        expect(throughWire.coordinator(message)).toEqual(message);
      }),
    );
  });
});

describe("what does not fit", () => {
  it("is refused with a code: an empty message, one that lacks a part, one of a newer version", () => {
    const decode = (bytes: Buffer) => Session.requestDeserialize(bytes) as Envelope;
    const malformed: Envelope[] = [
      decode(Buffer.alloc(0)),
      decode(Session.requestSerialize({ answer: {} })),
      decode(Session.requestSerialize({ hello: { incarnation: "not one" } })),
      decode(Session.requestSerialize({ heartbeat: {} })),
      // Field 99 of the oneof, which this version does not know.
      decode(Buffer.from([0x9a, 0x06, 0x00])),
      // Found by fuzzing: a kind that cannot be made a property's name.
      { kind: { toString: true } as never },
    ];
    for (const envelope of malformed) expect(refusal(() => parseWorkerMessage(envelope))).toBe("LS_MALFORMED");
    const welcome = wireCoordinatorMessage({ kind: "welcome", term: 1, config: configForTests, fingerprint: null });
    expect(
      refusal(() => parseCoordinatorMessage({ ...welcome, welcome: { ...(welcome.welcome as object), config: "{}" } })),
    ).toBe("LS_MALFORMED");
  });

  it("is refused where a field was replaced by anything else, and never crashes the reader", () => {
    const messages = fc.oneof(...Object.values(workerMessages)) as fc.Arbitrary<WorkerMessage>;
    fc.assert(
      fc.property(messages, fc.nat(), fc.anything(), (message, which, value) => {
        const envelope = wireWorkerMessage(message);
        const body = { ...(envelope[message.kind] as Record<string, unknown>) };
        const fields = Object.keys(body);
        body[fields[which % fields.length]!] = value;
        refusal(() => parseWorkerMessage({ kind: message.kind, [message.kind]: body }));
      }),
    );
  });

  it("is refused when it is longer than any message may be; own sentences are cut", () => {
    const long = "x".repeat(100_000);
    const hello = { code: "LS_X", message: long };
    expect(refusal(() => parseWorkerMessage({ kind: "failed", failed: hello }))).toBe("LS_MALFORMED");
    const cut = throughWire.worker({ kind: "failed", code: "LS_X", message: long });
    expect(cut.kind === "failed" && cut.message.length).toBeLessThan(20_000);
  });
});

describe("entries that travel with a state", () => {
  it("come back as they were", () => {
    const { PullEntries } = memberService as unknown as Record<"PullEntries", (typeof memberService)[string]>;
    fc.assert(
      fc.property(fc.record({ lineage, entries }), (value) => {
        const read = parseEntries(PullEntries.responseDeserialize(PullEntries.responseSerialize(value)));
        expect(read).toEqual(value);
      }),
    );
  });
});
