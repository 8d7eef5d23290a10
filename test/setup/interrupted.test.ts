import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { gpuWheels, scene, versionOf } from "./scene.ts";
import { ROOT, start } from "./support.ts";

/** Sets a runtime up in a process of its own, from the built tree; what it says comes on its standard output. */
function setUpElsewhere(options: object) {
  const at = (file: string) => JSON.stringify(pathToFileURL(join(ROOT, "dist/deploy/setup", file)).href);
  const program = `
    const [{ ensureRuntime }, { SetupDisplay }] = await Promise.all([import(${at("runtime.js")}), import(${at("show.js")})]);
    await ensureRuntime(new SetupDisplay(process.stdout), ${JSON.stringify(options)});
  `;
  return start(process.execPath, ["--input-type=module", "-e", program], {
    env: process.env as Record<string, string>,
  });
}

const saying = ({ child, output }: ReturnType<typeof start>, words: string) =>
  new Promise<void>((resolve) => void child.stdout!.on("data", () => output.stdout.includes(words) && resolve()));

test("a set-up that is interrupted between its wheels goes on there; two at once do the rest together", async () => {
  const gpu = gpuWheels("interrupted");
  let letGo = () => {};
  const held = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  let again = false;
  // Page and wheel of the first, page of the second, then its wheel: number 3.
  const hold = (index: number): Promise<void> => {
    if (again) return held;
    return index === 3 ? new Promise(() => {}) : Promise.resolve();
  };
  const { asked, places, packages, options } = await scene(gpu, "gpu", { hold });
  const killed = setUpElsewhere(options);
  // Said when it has been written.
  await saying(killed, `fetching ${gpu[1]!.package}`);
  killed.child.kill("SIGTERM");
  expect((await killed.ended).signal).toBe("SIGTERM");
  const [first, second] = gpu;
  expect(readdirSync(places.downloads).sort()).toEqual([first!.filename, `${second!.filename}.partial`].sort());
  expect(readdirSync(join(places.cache, "runtime"))).toEqual([]);

  asked.length = 0;
  again = true;
  const both = [setUpElsewhere(options), setUpElsewhere(options)];
  // One hangs on the index, whoever it is; the other one says that it waits.
  await Promise.race(both.map((one) => saying(one, "waiting for it")));
  letGo();
  const ends = await Promise.all(both.map(({ ended }) => ended));
  expect(ends.map(({ code, stderr }) => [code, stderr])).toEqual([
    [0, ""],
    [0, ""],
  ]);
  expect(asked.map(({ path }) => path)).toEqual([`/simple/${second!.package}/`, `/files/${second!.filename}`]);
  expect(asked[1]?.range).toMatch(/^bytes=\d+-$/);
  expect(versionOf(packages.tfjs, "lib/gpu/tfjs_binding.node")).toBe("interrupted with CUDA");
  expect(readdirSync(places.downloads)).toEqual([]);
  expect(readFileSync(join(places.runtime, "nvidia/cuda_nvcc/nvvm/libdevice/libdevice.10.bc"), "utf8")).toBe(
    "device code",
  );
});
