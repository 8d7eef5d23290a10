import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test, vi } from "vitest";
import { writePack } from "../../deploy/setup/pack-writer.ts";
import { cachePlaces } from "../../deploy/setup/places.ts";
import { ensureRuntime } from "../../deploy/setup/runtime.ts";
import { bootstrap, smallClone, WITH_PACKAGE } from "./clone.ts";
import { proxy, secureMirror, smallDisk } from "./networks.ts";
import { cpuWheel, indexOf, natsWheel, scene, versionOf } from "./scene.ts";
import { deadOrigin, noArchives, programOnPath, serve, temporaryFolder, writeTree } from "./support.ts";

/** Whoever runs the tests may have settings of their own. */
beforeEach(() => {
  for (const name of ["http_proxy", "https_proxy", "no_proxy", "PIP_PROXY", "PIP_CERT", "PIP_EXTRA_INDEX_URL"]) {
    vi.stubEnv(name, undefined);
    if (!name.startsWith("PIP")) vi.stubEnv(name.toUpperCase(), undefined);
  }
  vi.stubEnv("PIP_CONFIG_FILE", "/dev/null");
});

test.each(["HTTP_PROXY", "http_proxy", "PIP_PROXY"])("%s: the index and the wheel come through it", async (name) => {
  const { origin, show, packages, options } = await scene([cpuWheel("proxied")]);
  const between = await proxy();
  const host = `index.invalid:${new URL(origin).port}`;
  vi.stubEnv("PIP_INDEX_URL", `http://${host}/simple`);
  await expect(ensureRuntime(show, options)).rejects.toMatchObject({ code: "LS_INDEX" });
  vi.stubEnv(name, between.origin);
  await ensureRuntime(show, options);
  expect(versionOf(packages.tfjs)).toBe("proxied");
  expect(between.asked).toEqual([`GET ${host}`, `GET ${host}`]);
});

test("NO_PROXY: what it names is asked straight, also where the proxy is dead", async () => {
  const { show, packages, options } = await scene([cpuWheel("straight")]);
  vi.stubEnv("HTTP_PROXY", await deadOrigin());
  await expect(ensureRuntime(show, options)).rejects.toMatchObject({ code: "LS_INDEX" });
  vi.stubEnv("NO_PROXY", "other.invalid,127.0.0.1");
  await ensureRuntime(show, options);
  expect(versionOf(packages.tfjs)).toBe("straight");
});

test("HTTPS_PROXY: a tunnel to a mirror whose authority pip's settings name, and that is believed by nobody else", async () => {
  const wheel = cpuWheel("tunnelled");
  const { asked, show, packages, options } = await scene([wheel]);
  const mirror = await secureMirror("mirror.invalid", indexOf([wheel]));
  const between = await proxy();
  vi.stubEnv("PIP_INDEX_URL", `${mirror.origin}/simple`);
  vi.stubEnv("HTTPS_PROXY", between.origin);
  await expect(ensureRuntime(show, options)).rejects.toMatchObject({
    code: "LS_INDEX",
    message: expect.stringMatching(/mirror\.invalid:\d+: .*certificate/),
  });
  const folder = temporaryFolder();
  writeTree(folder, { "ca.pem": mirror.authority });
  vi.stubEnv("PIP_CERT", join(folder, "ca.pem"));
  await ensureRuntime(show, options);
  expect(versionOf(packages.tfjs)).toBe("tunnelled");
  expect(new Set(between.asked)).toEqual(new Set([`CONNECT ${new URL(mirror.origin).host}`]));
  expect(asked).toEqual([]);
});

test.skipIf(noArchives !== "")(
  `npm's packages come from the registry and through the proxy that npm's settings name${noArchives}`,
  async () => {
    const folder = temporaryFolder();
    writeTree(folder, { "package/package.json": JSON.stringify({ name: "p-retry", version: "7.1.1" }) });
    execFileSync("tar", ["-czf", "p.tgz", "package"], { cwd: folder });
    const tarball = readFileSync(join(folder, "p.tgz"));
    const integrity = `sha512-${createHash("sha512").update(tarball).digest("base64")}`;
    const lock = WITH_PACKAGE["package-lock.json"].replace(/sha512-[^"]*/, integrity);
    const dist = (origin: string) => ({ tarball: `${origin}/p-retry/-/p-retry-7.1.1.tgz`, integrity });
    const files: Record<string, Buffer> = { "/p-retry/-/p-retry-7.1.1.tgz": tarball };
    const { origin, asked } = await serve({ files });
    const registry = `http://registry.invalid:${new URL(origin).port}`;
    const versions = { "7.1.1": { name: "p-retry", version: "7.1.1", dist: dist(registry) } };
    files["/p-retry"] = Buffer.from(JSON.stringify({ name: "p-retry", "dist-tags": { latest: "7.1.1" }, versions }));
    const between = await proxy();
    const clone = smallClone({ ...WITH_PACKAGE, "package-lock.json": lock, "dist/x.js": "" });
    const env = {
      npm_config_registry: `${registry}/`,
      npm_config_proxy: between.origin,
      npm_config_cache: join(clone, "npm"),
      npm_config_fetch_retries: "0",
      npm_config_userconfig: "/dev/null",
    };
    const { code, stderr } = await bootstrap(clone, ["build"], { env }).ended;
    expect(code, stderr).toBe(0);
    expect(JSON.parse(readFileSync(join(clone, "node_modules/p-retry/package.json"), "utf8")).version).toBe("7.1.1");
    expect(asked.map(({ path }) => path)).toContain("/p-retry/-/p-retry-7.1.1.tgz");
    expect(between.asked.length).toBe(asked.length);
  },
);

const mayMount = process.getuid?.() === 0 && programOnPath("mount") !== null;
const why = mayMount ? "" : " (skipped: only root may mount a small disk)";

test.skipIf(!mayMount)(
  `a disk that is too small is refused before a byte is fetched; one that fills up keeps what came${why}`,
  async (context) => {
    const disk = smallDisk(400);
    if (disk === null) return context.skip("this system mounts no tmpfs here");
    const wheel = cpuWheel("large", [], Buffer.alloc(300_000, 7));
    const { asked, show, packages, options } = await scene([wheel]);
    const small = { ...options, places: cachePlaces("cpu", join(disk.folder, "cache")) };
    const full = { code: "LS_DISK_FULL", exitCode: 3 };
    await expect(ensureRuntime(show, small)).rejects.toMatchObject({
      ...full,
      message: expect.stringMatching(/has \d+ kB left; .* are needed/),
    });
    const pack = {
      flavours: ["cpu"],
      data: null,
      packages,
      wheels: { cpu: options.wheels, gpu: options.wheels },
    } as const;
    await expect(
      writePack(show, join(disk.folder, "pack"), {
        ...pack,
        nats: natsWheel(),
        root: smallClone(),
        cache: small.places.cache,
      }),
    ).rejects.toMatchObject(full);
    expect(asked).toEqual([]);

    // An index that does not tell sizes: the disk fills up on the way.
    const unknown = { ...small, wheels: { wheels: [{ ...wheel, bytes: 0 }], unpackedBytes: 0 } };
    await expect(ensureRuntime(show, unknown)).rejects.toMatchObject(full);
    expect(existsSync(small.places.runtime)).toBe(false);
    const [kept] = readdirSync(small.places.downloads);
    expect(kept).toBe(`${wheel.filename}.partial`);
    disk.grow(40_000);
    asked.length = 0;
    await ensureRuntime(show, small);
    expect(asked.at(-1)).toMatchObject({ range: expect.stringMatching(/^bytes=[1-9]\d+-$/) });
    expect(versionOf(packages.tfjs)).toBe("large");

    // While it is unpacked: nothing half-done stays.
    const other = smallDisk(Math.ceil(wheel.bytes / 1024) + 24)!;
    const tight = {
      ...options,
      places: cachePlaces("cpu", join(other.folder, "cache")),
      wheels: { wheels: [wheel], unpackedBytes: 0 },
    };
    mkdirSync(tight.places.downloads, { recursive: true });
    await expect(ensureRuntime(show, tight)).rejects.toMatchObject(full);
    expect([existsSync(tight.places.runtime), readdirSync(join(tight.places.cache, "runtime"))]).toEqual([false, []]);
  },
);
