import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { loadArithmetic, loadArithmeticSync } from "../../worker/arithmetic/arithmetic.ts";

const path = fileURLToPath(new URL("../../dist/worker/arithmetic/arithmetic.wasm", import.meta.url));

describe("the arithmetic module", () => {
  it("imports the shared memory and nothing else, and writes nothing into it", async () => {
    expect(WebAssembly.Module.imports(new WebAssembly.Module(readFileSync(path)))).toEqual([
      { module: "env", name: "memory", kind: "memory" },
    ]);
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
    new Uint8Array(memory.buffer).fill(0xa5);
    await loadArithmetic(memory);
    expect(new Uint8Array(memory.buffer).every((byte) => byte === 0xa5)).toBe(true);
  });

  it("reaches addresses above 2 GiB and the last byte of 4 GiB", () => {
    const memory = new WebAssembly.Memory({ initial: 65536, maximum: 65536, shared: true });
    const arithmetic = loadArithmeticSync(memory);
    const [a, b, end] = [3 * 2 ** 30, 3 * 2 ** 30 + 4096, 2 ** 32 - 80];
    new Float32Array(memory.buffer, a, 20).fill(1.5);
    new Float32Array(memory.buffer, b, 20).fill(2.25);
    arithmetic.add(end, a, b, 20);
    expect([...new Float32Array(memory.buffer, end, 20)]).toEqual(Array(20).fill(3.75));
    arithmetic.add(a, a, b, 20);
    expect(arithmetic.xxh64(end, 80)).toBe(arithmetic.xxh64(a, 80));
  });

  it("says how to build it where it is missing", async () => {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
    await expect(loadArithmetic(memory, join(tmpdir(), "nothing-here.wasm"))).rejects.toMatchObject({
      code: "LS_ARITHMETIC_MISSING",
    });
  });
});
