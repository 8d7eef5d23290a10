import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, onTestFinished, test, vi } from "vitest";
import { download } from "../../deploy/setup/download.ts";
import { deadOrigin, ROOT, serve, sha256, start, temporaryFolder } from "./support.ts";

const content = randomBytes(300_000);
const facts = { sha256: sha256(content), size: content.length, retries: 3, firstPause: 1 };
const target = () => join(temporaryFolder(), "downloads", "library.whl");
const files = { "/library.whl": content };

/** Runs a download in a process of its own, from the built tree. */
function downloadElsewhere(url: string, file: string) {
  const module = pathToFileURL(join(ROOT, "dist/deploy/setup/download.js")).href;
  const options = JSON.stringify({ ...facts, url, file });
  const program = `import(${JSON.stringify(module)}).then((m) => m.download({...${options}, onWait: () => console.log("waiting")}))`;
  return start(process.execPath, ["-e", program], { env: { PATH: process.env.PATH } });
}

test("a broken connection is taken up where it broke", async () => {
  // It breaks when what was sent has arrived: what is under way then is lost.
  let arrived = () => {};
  const kept = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  const { origin, asked } = await serve({
    files,
    cut: (index) => (index === 0 ? 100_000 : null),
    hold: (index) => (index === 0 ? kept : Promise.resolve()),
  });
  const file = target();
  const onProgress = (done: number) => done === 100_000 && arrived();
  await download({ ...facts, url: `${origin}/library.whl`, file, onProgress });
  expect(readFileSync(file).equals(content)).toBe(true);
  expect(asked.map(({ range }) => range)).toEqual([null, "bytes=100000-"]);
  expect(readdirSync(dirname(file))).toEqual(["library.whl"]);
});

test("what an interrupted process left is kept", async () => {
  const { origin, asked } = await serve({ files });
  const file = target();
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.partial`, content.subarray(0, 123_456));
  await download({ ...facts, url: `${origin}/library.whl`, file });
  expect(asked.map(({ range }) => range)).toEqual(["bytes=123456-"]);
  expect(readFileSync(file).equals(content)).toBe(true);
});

test("a server without ranges sends it all again", async () => {
  const { origin, asked } = await serve({ files, ranges: false, cut: (index) => (index === 0 ? 100_000 : null) });
  const file = target();
  await download({ ...facts, url: `${origin}/library.whl`, file });
  expect(asked.length).toBe(2);
  expect(readFileSync(file).equals(content)).toBe(true);
});

test("a torn beginning is noticed by its hash, thrown away and fetched again", async () => {
  const { origin, asked } = await serve({ files });
  const file = target();
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.partial`, randomBytes(1000));
  await download({ ...facts, url: `${origin}/library.whl`, file });
  expect(asked.map(({ range }) => range)).toEqual(["bytes=1000-", null]);
  expect(readFileSync(file).equals(content)).toBe(true);
});

test("a file with another hash is refused and leaves nothing", async () => {
  const { origin } = await serve({ files });
  const file = target();
  const wrong = download({ ...facts, sha256: "0".repeat(64), url: `${origin}/library.whl`, file });
  await expect(wrong).rejects.toMatchObject({
    code: "LS_DOWNLOAD_HASH",
    exitCode: 3,
    message: expect.stringContaining(facts.sha256),
  });
  expect(readdirSync(dirname(file))).toEqual([]);
});

test("a refusal is final, an overloaded server is asked again", async () => {
  const gone = await serve({ files, status: () => 404 });
  const file = target();
  await expect(download({ ...facts, url: `${gone.origin}/library.whl`, file })).rejects.toMatchObject({
    code: "LS_DOWNLOAD",
    message: expect.stringContaining("404"),
  });
  expect(gone.asked.length).toBe(1);
  const busy = await serve({ files, status: (index) => (index < 2 ? 503 : 200) });
  await download({ ...facts, url: `${busy.origin}/library.whl`, file });
  expect(busy.asked.length).toBe(3);
});

test("credentials travel in the header and stay out of messages", async () => {
  const { origin, asked } = await serve({ files });
  const file = target();
  const authorization = `Basic ${Buffer.from("me:secret").toString("base64")}`;
  const url = `${origin}/library.whl?token=hidden`;
  const wrong = download({ ...facts, sha256: "0".repeat(64), url, file, authorization });
  await expect(wrong).rejects.toMatchObject({ message: expect.not.stringMatching(/secret|hidden/) });
  expect(asked[0]!.authorization).toBe(authorization);
});

test("a proxy of the environment is used, and one that is dead is an error", async () => {
  // A proxy is asked for plain HTTP by whole addresses (RFC 9112, 3.2.2), of which this server reads the path.
  const proxy = await serve({ files });
  const file = target();
  const url = "http://index.invalid/library.whl";
  onTestFinished(() => void vi.unstubAllEnvs());
  vi.stubEnv("http_proxy", await deadOrigin());
  await expect(download({ ...facts, url, file })).rejects.toMatchObject({ code: "LS_DOWNLOAD" });
  vi.stubEnv("http_proxy", proxy.origin);
  await download({ ...facts, url, file });
  expect(readFileSync(file).equals(content)).toBe(true);
});

test("a server that says nothing is not waited for without end", async () => {
  const { origin, asked } = await serve({ files, hold: () => new Promise(() => {}) });
  const file = target();
  const stuck = download({ ...facts, retries: 1, silence: 50, url: `${origin}/library.whl`, file });
  await expect(stuck).rejects.toMatchObject({
    code: "LS_DOWNLOAD",
    message: expect.stringContaining("nothing came"),
  });
  expect(asked.length).toBe(2);
});

test("two processes fetch it once", async () => {
  let letGo = () => {};
  const held = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  const { origin, asked } = await serve({ files, hold: () => held });
  const file = target();
  const one = downloadElsewhere(`${origin}/library.whl`, file);
  const two = downloadElsewhere(`${origin}/library.whl`, file);
  // One holds the lock and hangs on the last byte; the other says that it waits.
  const waits = ({ child }: typeof one) => new Promise((resolve) => child.stdout!.once("data", resolve));
  await Promise.race([waits(one), waits(two)]);
  letGo();
  const [first, second] = await Promise.all([one.ended, two.ended]);
  expect([first.code, second.code]).toEqual([0, 0]);
  expect([first.stdout, second.stdout].sort()).toEqual(["", "waiting\n"]);
  expect(asked.length).toBe(1);
  expect(readFileSync(file).equals(content)).toBe(true);
});

test("a process that is killed leaves its part to the next one", async () => {
  let arrived = () => {};
  const underWay = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  const { origin, asked } = await serve({
    files,
    hold: async (index) => {
      if (index > 0) return;
      arrived();
      await new Promise(() => {});
    },
  });
  const file = target();
  const killed = downloadElsewhere(`${origin}/library.whl`, file);
  await underWay;
  killed.child.kill("SIGINT");
  expect((await killed.ended).signal).toBe("SIGINT");
  expect(existsSync(file)).toBe(false);
  const next = await downloadElsewhere(`${origin}/library.whl`, file).ended;
  expect(next).toMatchObject({ code: 0, stdout: "" });
  expect(asked.length).toBe(2);
  expect(readFileSync(file).equals(content)).toBe(true);
});
