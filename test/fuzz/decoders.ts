import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { decodeLine, encodeLine } from "../../coordinator/records/line.ts";
import { parseConfiguration } from "../../deploy/setup/pip-settings.ts";
import { NO_LIST, parseHtmlPage, parseJsonPage } from "../../deploy/setup/python-index.ts";
import { parseNews } from "../../shared/broadcast/listener.ts";
import { readConfigFile } from "../../shared/config/files.ts";
import { openDataset } from "../../shared/data/dataset.ts";
import { decodeListing, encodeListing } from "../../shared/data/listing.ts";
import { parseClassNames, parseFolds } from "../../shared/data/text-files.ts";
import { LockstepError } from "../../shared/errors.ts";
import { parseFault } from "../../shared/faults/fault.ts";
import { headerLength, parseHeader } from "../../shared/model/safetensors.ts";
import { parseGpuList, visibleGpus } from "../../shared/process/nvidia-smi.ts";
import type { Incarnation } from "../../shared/protocol/view.ts";
import { parseCoordinatorMessage, parseEntries, parseWorkerMessage } from "../../shared/rpc/convert.ts";
import { parseLink } from "../../shared/security/join-link.ts";
import { parseChunk, textChunk } from "../../worker/exchange/chunk.ts";
import { parseTrailer } from "../../worker/exchange/trailer-schema.ts";
import { parseGpus } from "../../worker/gpu-watch.ts";

/** A decoder of what others send or leave, and inputs for it: wild ones, and sound ones with some bytes changed. */
export interface Decoder {
  readonly name: string;
  readonly inputs: fc.Arbitrary<Buffer>;
  decode(input: Buffer): unknown;
}

const HEX16 = "0123456789abcdef";
const view = { term: 1, number: 2 };
const trailer = {
  ...{ view, step: 3, from: HEX16, level: true, lineage: "ab".repeat(32), stateHash: HEX16, plan: null },
  shards: [{ shard: 0, idsDigest: HEX16, samples: 2, correct: 1, gradientDigest: HEX16 }],
};
const tip = { step: 1, lineage: "ab".repeat(32), stateHash: HEX16 };
const standing = { tip, whole: true, view, entries: [] };
const json = (value: unknown) => Buffer.from(JSON.stringify(value));
const header = json({
  __metadata__: { format: "lockstep" },
  weights: { dtype: "F32", shape: [2, 3], data_offsets: [0, 24] },
});
const listing = encodeListing({
  ...{ sha256: "cd".repeat(32), imageBytes: 12, counts: { train: 2, test: 1 } },
  small: { "train_y.bin": Buffer.from([1, 2]), "test_y.bin": Buffer.from([1]) },
  hashes: { train: Buffer.alloc(64, 1), test: Buffer.alloc(32, 2) },
});
const folder = mkdtempSync(join(tmpdir(), "lockstep-fuzz-"));
const file = (name: string, input: Buffer) => {
  writeFileSync(join(folder, name), input);
  return join(folder, name);
};
/** What protobuf hands over: any object under a kind. */
const envelope = (input: Buffer) => {
  const value: unknown = JSON.parse(input.toString());
  return (typeof value === "object" && value !== null ? value : {}) as never;
};

/** Bytes of a sound input with a few changes: replaced, inserted, cut out, cut off. */
function mutated(seed: Buffer): fc.Arbitrary<Buffer> {
  const change = fc.record({ at: fc.nat(seed.length), kind: fc.nat(3), bytes: fc.uint8Array({ maxLength: 8 }) });
  return fc.array(change, { maxLength: 5 }).map((changes) =>
    changes.reduce((bytes, { at, kind, bytes: more }) => {
      const where = Math.min(at, bytes.length);
      const [head, tail] = [bytes.subarray(0, where), bytes.subarray(where)];
      if (kind === 0) return Buffer.concat([head, more, tail.subarray(more.length)]);
      if (kind === 1) return Buffer.concat([head, more, tail]);
      return kind === 2 ? Buffer.concat([head, tail.subarray(more.length + 1)]) : Buffer.from(head);
    }, seed),
  );
}

/** Any text of a grammar that many decoders share: JSON with keys and values that they know. */
function shaped(seeds: readonly Buffer[]): fc.Arbitrary<Buffer> {
  const wild = fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes));
  const anyJson = fc.json({ maxDepth: 4 }).map((text) => Buffer.from(text));
  return fc.oneof(
    wild,
    anyJson,
    fc.string({ maxLength: 300 }).map((text) => Buffer.from(text)),
    ...seeds.map(mutated),
  );
}

/** JSON alone, for what protobuf has taken apart already: a sound message with one value replaced by any other. */
function replaced(...seeds: readonly object[]): fc.Arbitrary<Buffer> {
  const strange = fc.oneof(
    fc.constantFrom<unknown>(null, -1, 2 ** 53, 1.5, "", "x".repeat(20_000), [], {}, true, "__proto__"),
    fc.jsonValue({ maxDepth: 2 }),
  );
  return fc.tuple(fc.constantFrom(...seeds), fc.nat(60), strange).map(([seed, at, value]) => {
    let count = 0;
    return Buffer.from(JSON.stringify(seed, (_key, old: unknown) => (count++ === at ? value : old)));
  });
}

const decoder = (name: string, seeds: readonly Buffer[], decode: (input: Buffer) => unknown): Decoder => ({
  name,
  inputs: shaped(seeds),
  decode,
});

const record = encodeLine({ kind: "start", time: 5 }, 1);
const table = Buffer.from("0, GPU-1a, 550.54, 81559, NVIDIA H100\n1, GPU-2b, 550.54, [N/A], A100\n");
const usage = Buffer.from("0, 37, 1024, 81559, 123.45, 41, 1980, 2619, 0\n");
const hello = {
  ...{ incarnation: HEX16, name: "w", host: "h", pid: 1, version: "1", address: "127.0.0.1:5", httpAddress: "" },
  ...{ labels: { device: "cpu" }, promised: null, standing },
};
const member = { incarnation: HEX16, address: "127.0.0.1:5", shards: { from: 0, to: 2 }, entry: "level" };

/** Every decoder that reads what comes from others. */
export const DECODERS: readonly Decoder[] = [
  decoder("exchange chunk", [textChunk("trailer", view, 3, trailer)], parseChunk),
  {
    name: "trailer",
    inputs: replaced(trailer),
    decode: (input) =>
      parseTrailer(parseChunk(textChunk("trailer", view, 3, JSON.parse(input.toString()))), HEX16 as Incarnation),
  },
  {
    name: "worker message",
    inputs: replaced(
      { kind: "hello", hello },
      { kind: "answer", answer: { id: view, standing } },
      { kind: "lost", lost: { view, peer: HEX16, refused: false } },
    ),
    decode: (input) => parseWorkerMessage(envelope(input)),
  },
  {
    name: "coordinator message",
    inputs: replaced(
      {
        kind: "install",
        install: { view: { id: view, predecessor: null, kind: "train", members: [member] }, base: tip },
      },
      { kind: "welcome", welcome: { term: 1, config: "{}", fingerprint: [] } },
      { kind: "evaluate", evaluate: { batches: [1, 2] } },
    ),
    decode: (input) => parseCoordinatorMessage(envelope(input)),
  },
  {
    name: "ledger entries",
    inputs: replaced({ lineage: tip.lineage, entries: [] }),
    decode: (i) => parseEntries(envelope(i)),
  },
  decoder("data listing", [listing], decodeListing),
  decoder("record line", [record], decodeLine),
  decoder("safetensors header", [header], (input) => parseHeader(input, 24, "f")),
  decoder("safetensors prefix", [Buffer.from([9, 0, 0, 0, 0, 0, 0, 0])], (input) =>
    headerLength(Buffer.concat([input, Buffer.alloc(8)]).subarray(0, 8), 1000, "f"),
  ),
  decoder("broadcast", [json({ v: 1, run: "r", step: 3 })], (input) => parseNews("lockstep.v1.r.step", input)),
  decoder("fault", [Buffer.from("freeze:500@update")], (input) => parseFault(input.toString())),
  decoder("join link", [Buffer.from(`lockstep://[::1]:70/ls1-${"a".repeat(64)}-b-c`)], (i) => parseLink(i.toString())),
  decoder("config file", [json({ workers: 2, model: "alexnet", lr: 0.1 })], (i) => readConfigFile(file("c.json", i))),
  decoder("class names", [Buffer.from("cat\ndog\n")], (input) => parseClassNames(input.toString(), "f")),
  decoder("folds", [Buffer.from("0 1 2\n3 4 5\n")], (input) => parseFolds(input.toString(), "f", 6)),
  decoder("data set", [Buffer.alloc(60, 1)], (input) => {
    writeFileSync(join(folder, "dataset.json"), input.length % 2 === 0 ? '{"channels":3,"height":2,"width":2}' : input);
    for (const name of ["train_X.bin", "test_X.bin"]) file(name, input);
    for (const name of ["train_y.bin", "test_y.bin"]) file(name, input.subarray(0, Math.ceil(input.length / 12)));
    openDataset(folder).close();
  }),
  decoder("nvidia-smi list", [table], (input) => visibleGpus(parseGpuList(input.toString()), input.toString("latin1"))),
  decoder("nvidia-smi figures", [usage], (input) => {
    for (const reading of parseGpus(input.toString()))
      for (const value of Object.values(reading)) if (Number.isNaN(value)) throw new Error("no figure is not a number");
  }),
  decoder("pip configuration", [Buffer.from("[global]\nindex-url = http://a/b\n c\n")], (i) =>
    parseConfiguration(i.toString()),
  ),
  {
    name: "index page",
    inputs: replaced({ files: [{ filename: "a.whl", url: "a.whl", hashes: { sha256: "AB" }, size: 1 }] }),
    decode: (input) => {
      try {
        return parseJsonPage(JSON.parse(input.toString()), "http://a/");
      } catch (error) {
        // Whoever asks indexes makes one coded error of all their complaints, and needs a sentence of each.
        if (error instanceof Error && [NO_LIST, "Invalid URL"].includes(error.message))
          throw new LockstepError("LS_INDEX", error.message);
        throw error;
      }
    },
  },
  decoder("index page, HTML", [Buffer.from(`<a href="x.whl#sha256=${"a".repeat(64)}">x.whl</a>`)], (input) =>
    parseHtmlPage(input.toString(), "http://a/"),
  ),
];
