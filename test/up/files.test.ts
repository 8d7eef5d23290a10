import { appendFileSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { LineTail } from "../../deploy/up/line-tail.ts";
import { MachineLines } from "../../deploy/up/machine-lines.ts";
import { LOCAL_NETWORK } from "../../deploy/up/network-options.ts";
import { decodeBatch } from "../../deploy/up/predicted-batches.ts";
import { prepareRun, readRunConfig, writeConfig } from "../../deploy/up/prepare.ts";
import { prepareResume } from "../../deploy/up/prepare-resume.ts";
import { lockRun } from "../../deploy/up/run-lock.ts";
import { latestRun } from "../../deploy/up/runs.ts";
import { lockstep } from "./support.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "lockstep-up-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe("a growing file of lines", () => {
  it("is read line by line, whole lines only, characters that come in halves too", () => {
    const file = join(directory, "x.ndjson");
    const tail = new LineTail(file);
    expect(tail.read()).toEqual([]);
    const bytes = Buffer.from('{"a":"ä"}\n');
    const cut = bytes.indexOf(Buffer.from("ä")) + 1;
    writeFileSync(file, '{"n":1}\nno JSON\n[1]\n');
    appendFileSync(file, bytes.subarray(0, cut));
    expect(tail.read()).toEqual([{ n: 1 }]);
    appendFileSync(file, bytes.subarray(cut));
    expect(tail.read()).toEqual([{ a: "ä" }]);
    expect(tail.read()).toEqual([]);
  });

  it("is read from its beginning when it was written anew", () => {
    const file = join(directory, "x.ndjson");
    const tail = new LineTail(file);
    writeFileSync(file, '{"n":1}\n{"n":2}\n');
    tail.read();
    writeFileSync(file, '{"n":3}\n');
    expect(tail.read()).toEqual([{ n: 3 }]);
  });
});

describe("lines for machines", () => {
  const step = (n: number) =>
    appendFileSync(join(directory, "steps.ndjson"), `{"step":${n},"loss":1,"shards":[{"shard":0}]}\n`);
  const event = (type: string) => appendFileSync(join(directory, "events.ndjson"), `{"time":"t","type":"${type}"}\n`);

  it("tell each final step once, also when it was done again, and every event", () => {
    const written: object[] = [];
    const lines = new MachineLines(directory, (value) => written.push(value), false);
    event("view");
    for (const n of [0, 1]) step(n);
    lines.pump();
    for (const n of [1, 2]) step(n);
    event("phase");
    lines.pump();
    expect(written).toEqual([
      { time: "t", type: "view" },
      { type: "step", step: 0, loss: 1 },
      { type: "step", step: 1, loss: 1 },
      { time: "t", type: "phase" },
      { type: "step", step: 2, loss: 1 },
    ]);
  });

  it("do not tell what an earlier life of the run has told", () => {
    event("view");
    for (const n of [0, 1, 2]) step(n);
    const written: object[] = [];
    const lines = new MachineLines(directory, (value) => written.push(value), true);
    for (const n of [2, 3]) step(n);
    lines.pump();
    expect(written).toEqual([{ type: "step", step: 3, loss: 1 }]);
  });
});

describe("the lock of a run", () => {
  const silent = () => {};

  it("is held by one at a time and free again afterwards", async () => {
    const release = await lockRun(directory, silent, silent);
    const second = lockRun(directory, silent, silent, 0);
    await expect(second).rejects.toMatchObject({ code: "LS_RUN_LOCKED", message: expect.stringContaining(directory) });
    await release();
    await (await lockRun(directory, silent, silent, 0))();
  });

  it("of a killed process is taken over", async () => {
    const left = `${directory}.lock`;
    mkdirSync(left);
    const old = new Date(Date.now() - 60_000);
    utimesSync(left, old, old);
    await (await lockRun(directory, silent, silent, 0))();
  });

  it("cannot be had where there is no directory", async () => {
    await expect(lockRun(join(directory, "none", "deep"), silent, silent, 0)).rejects.toMatchObject({
      code: "LS_RUN_DIRECTORY",
      exitCode: 3,
    });
  });
});

async function ended(args: readonly string[]) {
  const run = lockstep([...args]);
  const { code } = await run.ended;
  return { code, out: run.out(), err: run.err() };
}

describe("a run's directory", () => {
  const extras = { demo: false, network: LOCAL_NETWORK, devices: ["cpu"] };
  const signal = new AbortController().signal;

  it("that holds another run is refused", async () => {
    writeFileSync(join(directory, "config.json"), "{}");
    const failure = { code: "LS_RUN_EXISTS", exitCode: 2, hint: expect.stringContaining("resume") };
    await expect(prepareRun({ out: directory }, extras, signal)).rejects.toMatchObject(failure);
  });

  it("is not even looked at for an address that others cannot dial", async () => {
    const network = { ...LOCAL_NETWORK, advertise: "0.0.0.0" };
    const failure = { code: "LS_ADVERTISE", exitCode: 2 };
    await expect(
      prepareRun({ out: directory, listen: "0.0.0.0" }, { ...extras, network }, signal),
    ).rejects.toMatchObject(failure);
  });

  it("without a run cannot be resumed", async () => {
    expect(() => readRunConfig(directory)).toThrow("config.json");
    await expect(prepareResume(directory, {}, false, LOCAL_NETWORK)).rejects.toMatchObject({
      code: "LS_RUN_CONFIG",
      exitCode: 2,
    });
  });

  it("goes on where it listens elsewhere, and not where nothing would secure its pages", async () => {
    const [data, out] = [join(directory, "data"), join(directory, "run")];
    await writeSynthetic(data, { train: 40, test: 10, classes: 2, side: 8, seed: 1 });
    const { config } = await prepareRun({ data, out, steps: 2 }, extras, signal);
    writeConfig(out, config);
    expect((await prepareResume(out, { listen: "10.0.0.7" }, false, LOCAL_NETWORK)).config.place.listen).toBe(
      "10.0.0.7",
    );
    const { code, err } = await ended(["resume", out, "--listen", "127.0.0.2", "--http", "0.0.0.0"]);
    expect([code, err]).toEqual([2, expect.stringMatching(/^--http beyond this machine .*\[LS_USAGE\]/)]);
    const again = await ended(["up", "--continue", "--out", out, "--share", join(directory, "share")]);
    expect([again.code, again.err]).toEqual([2, expect.stringMatching(/^--share is for runs that are secured/)]);
    writeFileSync(
      join(out, "summary.json"),
      JSON.stringify({ run: config.runId, outcome: "done", weightsSha256: "ab" }),
    );
    writeConfig(out, { ...config, place: { ...config.place, evaluation: null } });
    const over = await ended(["up", "--continue", "--out", out, "--json"]);
    expect([over.code, JSON.parse(over.out)]).toMatchObject([
      0,
      { type: "summary", run: config.runId, outcome: "done" },
    ]);
  });

  it("is found by its age", () => {
    expect(() => latestRun(directory)).toThrow("There is no run");
    for (const [name, at] of [
      ["a", 3000],
      ["b", 9000],
      ["c", 5000],
    ] as const) {
      mkdirSync(join(directory, name));
      writeFileSync(join(directory, name, "config.json"), "{}");
      utimesSync(join(directory, name, "config.json"), new Date(at), new Date(at));
    }
    mkdirSync(join(directory, "no-run"));
    expect(latestRun(directory)).toBe(join(directory, "b"));
  });
});

describe("a batch of predictions as a file", () => {
  const header = { from: 3, samples: 2, classes: 2, mapHeight: 1, mapWidth: 2, plain: false };
  const encode = (head: object, floats: readonly number[]) => {
    const json = Buffer.from(JSON.stringify(head));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(json.length);
    return Buffer.concat([length, json, Buffer.from(new Float32Array(floats).buffer)]);
  };

  it("is read whatever address its floats have", () => {
    const values = Array.from({ length: 4 + 8 }, (_, i) => i + 0.5);
    const batch = decodeBatch(encode(header, values), "f");
    expect([batch.from, [...batch.logits], [...batch.maps]]).toEqual([3, values.slice(0, 4), values.slice(4)]);
  });

  it("that is cut off or something else is refused by name", () => {
    const whole = encode(
      header,
      Array.from({ length: 12 }, () => 0),
    );
    for (const wrong of [
      whole.subarray(0, 3),
      whole.subarray(0, 20),
      whole.subarray(0, -4),
      encode({ from: -1 }, []),
      encode([], []),
    ]) {
      expect(() => decodeBatch(wrong, "batch-0.bin")).toThrow("batch-0.bin");
    }
  });
});
