import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { beforeAll, expect, test } from "vitest";
import { computeEnvironment } from "../../worker/compute/tensorflow.ts";
import { gradientHashes } from "./gradient-hashes.ts";

const program = fileURLToPath(new URL("../../dist/test/compute/gradient-hashes.js", import.meta.url));
const { VITEST: _, ...outside } = process.env;
const env = { ...outside, ...computeEnvironment({ device: "cpu", threads: 1 }) };

beforeAll(() => {
  if (!existsSync(program)) throw new Error("dist/ is not built; run `npx tsc -p .`");
});

async function inProcess(): Promise<string[]> {
  const { stdout } = await promisify(execFile)(process.execPath, [program], { env });
  return JSON.parse(stdout) as string[];
}

async function inThread(): Promise<string[]> {
  const thread = new Worker(program, { env: { ...env, OMP_NUM_THREADS: "1" }, argv: [], stderr: true });
  try {
    return await new Promise<string[]>((resolve, reject) => thread.once("message", resolve).once("error", reject));
  } finally {
    await thread.terminate();
  }
}

test("gradients have the same bits again, in two threads at once and in another process", async () => {
  const here = gradientHashes();
  // Of each model eager and graph, each of the sizes 6 and 5: all four of one mode are different gradients.
  for (const mode of [0, 2]) expect(new Set([0, 1, 4, 5].map((at) => here[at + mode])).size).toBe(4);
  expect(here.length).toBe(8);
  expect(gradientHashes()).toEqual(here);
  const [first, second, other] = await Promise.all([inThread(), inThread(), inProcess()]);
  expect(first).toEqual(here);
  expect(second).toEqual(here);
  expect(other).toEqual(here);
});
