import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { expect, test, vi } from "vitest";
import { Pack, setUpFrom } from "../../deploy/setup/pack.ts";
import { parseSums } from "../../deploy/setup/pack-files.ts";
import { writePack } from "../../deploy/setup/pack-writer.ts";
import { cachePlaces } from "../../deploy/setup/places.ts";
import { bootstrap, pathWith, smallClone, WITH_PACKAGE } from "./clone.ts";
import { BINDING, cpuWheel, gpuWheels, natsWheel, runtimeOf, scene, versionOf } from "./scene.ts";
import { deadOrigin, noArchives, programOnPath, sha256, temporaryFolder, writeTree } from "./support.ts";

/** A command line that says that it ran, in place of the built one. */
const MAIN = { "dist/deploy/cli/main.js": 'console.log("main", ...process.argv.slice(2));\n' };
const INSTALLED = {
  "node_modules/.package-lock.json": JSON.stringify({ packages: { "node_modules/p-retry": { version: "7.1.1" } } }),
  "node_modules/p-retry/index.js": "export const retry = 1;\n",
};

/** A machine with a network that has written a pack for both flavours, and an empty one that has none. */
async function packed() {
  const [cpu, gpu, nats] = [cpuWheel("packed"), gpuWheels("packed"), natsWheel()];
  const from = await scene([cpu, ...gpu, nats]);
  const wheels = { cpu: runtimeOf(cpu), gpu: runtimeOf(...gpu) };
  const clone = smallClone({ ...WITH_PACKAGE, ...INSTALLED, ...MAIN, "private.key": "not given away" });
  const directory = join(temporaryFolder(), "pack");
  const options = { wheels, nats, cache: from.places.cache, packages: from.packages, root: clone };
  const write = () => writePack(from.show, directory, { ...options, flavours: ["cpu", "gpu"], data: null });
  const hash = await write();
  const dead = await deadOrigin();
  for (const name of ["PIP_INDEX_URL", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"])
    vi.stubEnv(name, dead);
  const tfjs = join(temporaryFolder(), "tfjs");
  writeTree(tfjs, BINDING);
  const cache = join(temporaryFolder(), "cache");
  const there = { wheels, nats, cache, packages: { ...from.packages, tfjs } };
  return { from, clone, directory, hash, write, there, tfjs, cache, dead };
}

test.skipIf(noArchives !== "")(
  `a pack sets a machine up without network, compiler or nats-server; every file is in its list and right${noArchives}`,
  async () => {
    const { from, directory, hash, there, tfjs, cache } = await packed();
    const files = readdirSync(directory, { recursive: true, encoding: "utf8" }).filter((name) =>
      statSync(join(directory, name)).isFile(),
    );
    const sums = parseSums(readFileSync(join(directory, "SHA256SUMS"), "utf8"));
    expect([...sums.keys(), "SHA256SUMS"].sort()).toEqual(files.sort());
    for (const [name, sum] of sums) expect(sha256(readFileSync(join(directory, name))), name).toBe(sum);
    // The form is that of sha256sum, which checks a copy without Lockstep.
    if (programOnPath("sha256sum") !== null)
      execFileSync("sha256sum", ["--check", "--quiet", "--strict", "SHA256SUMS"], { cwd: directory });
    expect(hash).toBe(sha256(readFileSync(join(directory, "SHA256SUMS"))));

    vi.stubEnv("PATH", pathWith("node"));
    const asked = from.asked.length;
    await setUpFrom(from.show, new Pack(directory), [], there);
    expect(from.asked.length).toBe(asked);
    expect([versionOf(tfjs), versionOf(tfjs, "lib/gpu/tfjs_binding.node")]).toEqual(["packed", "packed with CUDA"]);
    const { natsServer, runtime } = cachePlaces("cpu", cache);
    expect(statSync(natsServer).mode & 0o111).not.toBe(0);
    expect(readdirSync(dirname(runtime)).length).toBe(2);
    // What the pack has is not moved, and a second time nothing is left to do.
    rmSync(join(directory, "wheels"), { recursive: true });
    await setUpFrom(from.show, new Pack(directory), ["cpu"], there);
  },
);

test.skipIf(noArchives !== "")(
  `a pack may be the top of a disk: what lies beside the folder neither holds it up nor is touched${noArchives}`,
  async () => {
    const { from, directory, write } = await packed();
    // Any lock beside it would have this name.
    const beside = `${directory}.lock`;
    writeTree(beside, { "mine.txt": "kept" });
    vi.unstubAllEnvs();
    vi.stubEnv("PIP_INDEX_URL", `${from.origin}/simple`);
    const said = vi.spyOn(from.show, "message");
    await write();
    expect(said.mock.calls.flat().filter((text) => text.includes("waiting for it"))).toEqual([]);
    expect(readdirSync(beside)).toEqual(["mine.txt"]);
    expect(readdirSync(directory).filter((name) => name.endsWith(".lock"))).toEqual([]);
  },
);

test.skipIf(noArchives !== "")(
  `npm's settings of the checkout go along, but not with somebody's credentials in them${noArchives}`,
  async () => {
    const { from, clone, directory, write } = await packed();
    vi.unstubAllEnvs();
    vi.stubEnv("PIP_INDEX_URL", `${from.origin}/simple`);
    const held = async (settings: string) => {
      writeFileSync(join(clone, ".npmrc"), settings);
      await write();
      const names = execFileSync("tar", ["-tzf", join(directory, "lockstep.tar.gz")], { encoding: "utf8" });
      return names.split("\n").includes("lockstep/.npmrc");
    };
    expect(await held("ignore-scripts=true\nregistry=https://mirror.example/npm/\n")).toBe(true);
    for (const line of ["//mirror.example/:_authToken=abc", "_password=abc", "https-proxy=http://me:abc@proxy:3128"])
      expect([line, await held(`ignore-scripts=true\n${line}\n`)]).toEqual([line, false]);
  },
);

test.skipIf(noArchives !== "")(
  `what is damaged, missing, or not a whole pack is refused with a sentence, and nothing half-done stays${noArchives}`,
  async () => {
    const { from, directory, there, cache, write } = await packed();
    const wheel = join(directory, "wheels", there.wheels.cpu.wheels[0]!.filename);
    const whole = readFileSync(wheel);
    const damaged = Buffer.from(whole);
    damaged[damaged.length >> 1]! ^= 1;
    writeFileSync(wheel, damaged);
    const setUp = () => setUpFrom(from.show, new Pack(directory), ["cpu"], there);
    await expect(setUp()).rejects.toMatchObject({
      code: "LS_PACK_FILE",
      exitCode: 3,
      message: expect.stringContaining("SHA-256"),
    });
    expect(existsSync(cachePlaces("cpu", cache).runtime)).toBe(false);
    // Packing again notices it too, throws it away and leaves no list behind.
    vi.unstubAllEnvs();
    vi.stubEnv("PIP_INDEX_URL", `${from.origin}/simple`);
    await expect(write()).rejects.toMatchObject({ code: "LS_PACK_FILE" });
    expect(() => new Pack(directory)).toThrow("is no pack, or was not written to its end");
    await write();

    const addons = join(directory, "addon");
    const addon = join(addons, readdirSync(addons)[0]!);
    appendFileSync(addon, "x");
    await expect(setUp()).rejects.toMatchObject({
      code: "LS_PACK_FILE",
      message: expect.stringMatching(/addon.* is damaged/),
    });
    expect(readdirSync(cachePlaces("cpu", cache).runtime).sort()).toEqual(["include", "tensorflow"]);
    rmSync(wheel);
    rmSync(cache, { recursive: true });
    await expect(setUp()).rejects.toMatchObject({
      code: "LS_PACK_FILE",
      message: expect.stringContaining("is not in"),
    });
    const other = { ...there, wheels: { ...there.wheels, gpu: runtimeOf(cpuWheel("another version")) } };
    const gpuToo = new Pack(directory);
    writeFileSync(join(directory, "SHA256SUMS"), "");
    await expect(setUpFrom(from.show, new Pack(directory), [], other)).rejects.toMatchObject({ code: "LS_PACK" });
    expect(gpuToo.flavours(there.wheels)).toEqual(["cpu", "gpu"]);
  },
);

test.skipIf(noArchives !== "")(
  `a fresh checkout takes npm's packages from the pack before anything else, checked; a damaged archive changes nothing${noArchives}`,
  async () => {
    const { directory, dead } = await packed();
    execFileSync("tar", ["-xzf", join(directory, "lockstep.tar.gz")], { cwd: directory });
    const clone = join(temporaryFolder(), "lockstep");
    cpSync(join(directory, "lockstep"), clone, { recursive: true });
    expect([existsSync(join(clone, "private.key")), existsSync(join(clone, "node_modules"))]).toEqual([false, false]);
    const env = { PATH: pathWith("node", "tar", "gzip"), HTTPS_PROXY: dead, npm_config_registry: dead };
    const run = () => bootstrap(clone, ["setup", "--from", directory], { env, program: "deploy/lockstep.mjs" }).ended;

    const archive = join(directory, "packages.tar.gz");
    const whole = readFileSync(archive);
    writeFileSync(archive, whole.subarray(0, whole.length - 1));
    expect(await run()).toMatchObject({
      code: 3,
      stdout: "",
      stderr: expect.stringMatching(/^[^\n]*packages\.tar\.gz is missing or damaged[^\n]*\[LS_PACK_FILE\]\n$/),
    });
    expect(existsSync(join(clone, "node_modules"))).toBe(false);

    writeFileSync(archive, whole);
    const { code, stdout, stderr } = await run();
    expect({ code, stdout }, stderr).toEqual({ code: 0, stdout: `main setup --from ${directory}\n` });
    expect(readFileSync(join(clone, "node_modules/p-retry/index.js"), "utf8")).toContain("retry");
    expect(readdirSync(clone)).not.toContain(".packages.partial");
  },
);
