import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { type Dtype, encodeHeader, SafetensorsFile } from "../../shared/model/safetensors.ts";

const directory = mkdtempSync(join(tmpdir(), "lockstep-safetensors-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** A file from header text and data, put together by hand. */
function file(header: string, data: Uint8Array | number[], declared = Buffer.byteLength(header)): string {
  const path = join(directory, "x.safetensors");
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(declared));
  writeFileSync(path, Buffer.concat([length, Buffer.from(header), Uint8Array.from(data)]));
  return path;
}

async function reading(path: string): Promise<string> {
  try {
    await (await SafetensorsFile.open(path)).close();
    return "sound";
  } catch (error) {
    expect(error).toMatchObject({ code: "LS_SAFETENSORS" });
    return (error as Error).message;
  }
}

test("a file written by hand is read", async () => {
  const header = '{"__metadata__":{"a":"b"},"second":{"dtype":"U8","shape":[2,1],"data_offsets":[8,10]},';
  const path = file(
    `${header}"first":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  `,
    [0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc1, 7, 9],
  );
  const opened = await SafetensorsFile.open(path);
  expect(opened.header.metadata).toEqual({ a: "b" });
  expect(opened.header.tensors.map(({ name }) => name)).toEqual(["first", "second"]);
  expect([...(await opened.floats("first"))]).toEqual([1, -10]);
  expect([...(await opened.bytes("second"))]).toEqual([7, 9]);
  await expect(opened.floats("second")).rejects.toThrow("tensor second is U8, not F32");
  await expect(opened.bytes("third")).rejects.toThrow("no tensor third");
  await opened.close();
});

test("the header that is written: length, JSON, spaces up to a multiple of 64 bytes", () => {
  const bytes = Buffer.from(encodeHeader([{ name: "w", dtype: "F32", shape: [3, 2] }], { k: "v" }));
  expect(bytes.length % 64).toBe(0);
  expect(Number(bytes.readBigUInt64LE(0))).toBe(bytes.length - 8);
  const text = bytes.toString("utf8", 8);
  expect(text.trimEnd()).toBe('{"__metadata__":{"k":"v"},"w":{"dtype":"F32","shape":[3,2],"data_offsets":[0,24]}}');
  const twice = { name: "w", dtype: "F32", shape: [1] } as const;
  expect(() => encodeHeader([twice, twice])).toThrow("two tensors");
});

const shape = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 });
const dtype = fc.constantFrom<Dtype>("F32", "I32", "U8", "BF16", "U64");
const tensor = fc.record({ dtype, shape });

test("what is written is read, any names, types and shapes", async () => {
  const files = fc.dictionary(fc.string({ minLength: 1 }), tensor, { maxKeys: 6 });
  await fc.assert(
    fc.asyncProperty(files, fc.dictionary(fc.string(), fc.string()), async (tensors, metadata) => {
      const names = Object.keys(tensors).filter((name) => name !== "__metadata__");
      const infos = names.map((name) => ({ name, ...tensors[name]! }));
      const header = encodeHeader(infos, metadata);
      const sizes = { F32: 4, I32: 4, U8: 1, BF16: 2, U64: 8 } as Record<Dtype, number>;
      const lengths = infos.map((info) => info.shape.reduce((product, extent) => product * extent, sizes[info.dtype]!));
      const data = lengths.map((length, i) => new Uint8Array(length).fill(i + 1));
      const path = join(directory, "property.safetensors");
      writeFileSync(path, Buffer.concat([header, ...data]));
      const opened = await SafetensorsFile.open(path);
      expect(opened.header.metadata).toEqual(metadata);
      for (const [i, name] of names.entries()) expect(await opened.bytes(name)).toEqual(data[i]);
      await opened.close();
    }),
    { numRuns: 60 },
  );
});

test("every unsound file is refused with the reason", async () => {
  const entry = (offsets: string, more = "") => `{"w":{"dtype":"F32","shape":[2],"data_offsets":${offsets}}${more}}`;
  const data = new Uint8Array(8);
  expect(await reading(file(entry("[0,8]"), data))).toBe("sound");
  expect(await reading(file(entry("[0,8]"), data.subarray(1)))).toContain("holds 7 bytes of tensors instead of 8");
  expect(await reading(file(entry("[0,8]"), [...data, 1]))).toContain("holds 9 bytes of tensors instead of 8");
  expect(await reading(file(entry("[4,12]"), [...data, 1, 2, 3, 4]))).toContain("starts at byte 4 instead of 0");
  const overlap = entry("[0,8]", ',"v":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}');
  expect(await reading(file(overlap, data))).toContain("starts at byte 4 instead of 8");
  expect(await reading(file(entry("[0,4]"), data))).toContain("has 4 bytes, not 8");
  expect(await reading(file(entry("[0]"), data))).toContain("malformed");
  expect(await reading(file(entry("[-8,0]"), data))).toContain("malformed");
  expect(await reading(file('{"w":null}', data))).toContain("malformed");
  expect(await reading(file(entry("[0,8]").replace("F32", "F33"), data))).toContain("unknown type F33");
  expect(await reading(file('{"__metadata__":{"a":1}}', []))).toContain("metadata is not text");
  expect(await reading(file("[]", []))).toContain("not an object");
  expect(await reading(file("{nonsense", []))).toContain("not JSON");
  expect(await reading(file("{}", [], 500))).toContain("header is cut off");
  expect(await reading(file("{}", [], 2 ** 40))).toContain("header is cut off");
  writeFileSync(join(directory, "short"), "abc");
  expect(await reading(join(directory, "short"))).toContain("shorter than a header");
});
