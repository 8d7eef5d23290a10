import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { afterEach, describe, expect, it, vi } from "vitest";
import { registerData } from "../../deploy/cli/data.ts";
import { FetchDisplay } from "../../deploy/data/progress.ts";
import { verifyData } from "../../deploy/data/verify.ts";
import { serve, smallArchive } from "./archive-server.ts";
import { realData, temporary, writeSmallSet } from "./support.ts";

/** Runs `lockstep data ...` and returns what it wrote to stdout. */
async function run(...words: string[]): Promise<string> {
  const program = new Command("lockstep").exitOverride();
  registerData(program);
  const written: string[] = [];
  const keep = (text: string | Uint8Array) => {
    written.push(String(text));
    return true;
  };
  vi.spyOn(process.stdout, "write").mockImplementation(keep);
  vi.spyOn(process.stderr, "write").mockImplementation(() => true);
  try {
    await program.parseAsync(["node", "lockstep", "data", ...words]);
  } finally {
    vi.restoreAllMocks();
  }
  return written.join("");
}

afterEach(() => vi.restoreAllMocks());

describe("lockstep data", () => {
  it("writes a generated set and verifies it", async () => {
    const directory = join(temporary("command"), "set");
    const options = ["--train", "20", "--test", "10", "--classes", "4", "--side", "16", "--seed", "3"];
    expect(await run("synth", "--dir", directory, ...options)).toBe(`${directory}\n`);
    expect(JSON.parse(await run("verify", directory, "--json"))).toMatchObject({
      official: false,
      trainImages: 20,
      testImages: 10,
      height: 16,
      classNames: ["plain disc", "striped square", "checked triangle", "dotted ring"],
    });
    expect(await run("verify", directory)).toContain("20 training and 10 test images of 3x16x16");
  });

  it("fetches from the address that it is given, and refuses what is not STL-10", async () => {
    const { archive } = await smallArchive();
    const server = await serve({ archive: () => archive });
    const directory = join(temporary("command"), "stl10");
    await expect(run("fetch", "--dir", directory, "--url", server.url)).rejects.toMatchObject({
      code: "LS_DATA_TRUNCATED",
      message: "test_X.bin ends at byte 400000 in the archive; 221184000 bytes are expected.",
    });
    expect(server.requests.length).toBe(1);
    expect(readdirSync(directory).filter((name) => name.endsWith(".bin"))).toEqual([]);
    await server.close();
  });

  it("refuses numbers that are none", async () => {
    await expect(run("synth", "--dir", "x", "--train", "many")).rejects.toMatchObject({ exitCode: 1 });
    expect(existsSync("x")).toBe(false);
  });

  it("finds what the reader finds", async () => {
    const directory = writeSmallSet(temporary("command"), { train: [1, 2, 9], test: [1], names: "a\nb" });
    await expect(run("verify", directory)).rejects.toMatchObject({ code: "LS_DATA_LABEL" });
  });

  const real = realData();
  it.skipIf(real === null)("tells the official STL-10 from a damaged one (skipped without LOCKSTEP_DATA)", async () => {
    const found = await verifyData(real!);
    expect(found).toMatchObject({ official: true, trainImages: 5000, testImages: 8000, folds: 10 });
    const damaged = temporary("damaged");
    mkdirSync(damaged, { recursive: true });
    for (const name of ["test_X.bin", "train_X.bin", "train_y.bin"])
      symlinkSync(join(real!, name), join(damaged, name));
    const labels = readFileSync(join(real!, "test_y.bin"));
    labels[77] = (labels[77]! % 10) + 1;
    writeFileSync(join(damaged, "test_y.bin"), labels);
    await expect(verifyData(damaged)).rejects.toMatchObject({
      code: "LS_DATA_CHECKSUM",
      message: expect.stringMatching(
        /test_y.bin: bytes 0 to 8000 have MD5 \w{32} instead of 36f9794fa4beb8a2c72628de14fa638e/,
      ),
    });
  });
});

describe("the display of a download", () => {
  const shown = (isTTY: boolean) => {
    const written: string[] = [];
    let now = 0;
    const display = new FetchDisplay({ isTTY, write: (text) => written.push(text) }, () => now);
    const at = (millis: number, total: number, fetched: number) => {
      now = millis;
      display.progress({ total, fetched, expected: 300_000_000 });
    };
    at(0, 50_000_000, 0);
    at(50, 60_000_000, 0);
    at(10_000, 100_000_000, 50_000_000);
    display.message("one file is complete");
    at(20_000, 150_000_000, 100_000_000);
    display.end();
    return written.join("");
  };

  it("rewrites one line on a terminal", () => {
    expect(shown(true)).toBe(
      "\rreading what is there: 50 MB of about 300 MB\u001b[K" +
        "\rfetching: 100 MB of about 300 MB, 5 MB/s, 40 s left\u001b[K\n" +
        "one file is complete\n" +
        "\rfetching: 150 MB of about 300 MB, 5 MB/s, 30 s left\u001b[K\n",
    );
  });

  it("writes few lines elsewhere", () => {
    expect(shown(false)).toBe(
      "reading what is there: 50 MB of about 300 MB\n" +
        "fetching: 100 MB of about 300 MB, 5 MB/s, 40 s left\n" +
        "one file is complete\n" +
        "fetching: 150 MB of about 300 MB, 5 MB/s, 30 s left\n",
    );
  });
});
