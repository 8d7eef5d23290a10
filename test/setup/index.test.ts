import { join } from "node:path";
import { expect, test } from "vitest";
import { configurationFiles, parseConfiguration, pipSettings } from "../../deploy/setup/pip-settings.ts";
import { indexFile, parseHtmlPage, parseJsonPage } from "../../deploy/setup/python-index.ts";
import { unpackWheel } from "../../deploy/setup/wheel.ts";
import { deadOrigin, serve, temporaryFolder, writeTree, zipOf } from "./support.ts";

const HASH = "ab".repeat(32);
const settingsOf = (...indexes: string[]) => ({ indexes, certificates: null, proxy: null });
const page = (...names: string[]) =>
  Buffer.from(
    JSON.stringify({
      meta: { "api-version": "1.1" },
      files: names.map((filename) => ({ filename, url: `../../files/${filename}`, hashes: { sha256: HASH }, size: 7 })),
    }),
  );

test("pip's sources override one another as pip's documentation has it", () => {
  const files: Record<string, string> = {
    "/etc/pip.conf": "[global]\nindex-url = https://system/simple\ncert = /system.pem\nproxy = http://proxy:1\n",
    "/home/u/.pip/pip.conf": "[global]\nindex-url = https://old-user/simple\n",
    "/home/u/.config/pip/pip.conf": "[global]\nindex-url = https://user/simple\n",
    "/named.conf": "[global]\nindex-url = https://named/simple\n",
  };
  const read = (file: string) => files[file] ?? null;
  const home = { HOME: "/home/u" };
  expect(pipSettings(home, read)).toEqual({
    indexes: ["https://user/simple"],
    certificates: "/system.pem",
    proxy: "http://proxy:1",
  });
  expect(pipSettings({ ...home, PIP_CONFIG_FILE: "/named.conf" }, read).indexes).toEqual(["https://named/simple"]);
  expect(pipSettings({ ...home, PIP_CONFIG_FILE: "/dev/null" }, read).indexes).toEqual(["https://pypi.org/simple"]);
  const environment = { ...home, PIP_INDEX_URL: "https://env/simple", PIP_EXTRA_INDEX_URL: "https://b/s https://c/s" };
  expect(pipSettings(environment, read).indexes).toEqual(["https://env/simple", "https://b/s", "https://c/s"]);
  expect(pipSettings({ HOME: "/none" }, () => null).indexes).toEqual(["https://pypi.org/simple"]);
  expect(configurationFiles({ HOME: "/h", XDG_CONFIG_HOME: "/x", VIRTUAL_ENV: "/v" })).toEqual([
    ...["/etc/xdg/pip/pip.conf", "/etc/pip.conf", "/h/.pip/pip.conf", "/x/pip/pip.conf", "/v/pip.conf"],
  ]);
});

test("the form of pip.conf: comments, continued lines, underscores, the section of a command beats [global]", () => {
  const text = [
    "# index-url = https://comment/simple",
    "[global]",
    "index_url: https://global/simple",
    "extra-index-url =",
    "    https://one/simple",
    "    https://two/simple",
    "[install]",
    "Index-URL = https://install/simple",
    "[freeze]",
    "index-url = https://freeze/simple",
  ].join("\n");
  expect(parseConfiguration(text)).toEqual({
    "index-url": "https://install/simple",
    "extra-index-url": "https://one/simple https://two/simple",
  });
});

test("both forms of an index page; what it says beyond names and addresses does not matter", () => {
  const base = "https://host/simple/pkg/";
  const json = {
    files: [
      { filename: "a.whl", url: "https://files/a.whl", hashes: { sha256: HASH }, size: 5, yanked: false },
      { filename: "b.whl", url: "../b.whl", hashes: { sha256: HASH } },
      { filename: "bad.whl", url: "bad.whl", hashes: { sha256: HASH }, yanked: "broken" },
      { filename: "md5.whl", url: "md5.whl", hashes: { md5: "00" } },
    ],
  };
  expect(parseJsonPage(json, base)).toEqual([
    { filename: "a.whl", url: "https://files/a.whl" },
    { filename: "b.whl", url: "https://host/simple/b.whl" },
    { filename: "bad.whl", url: "https://host/simple/pkg/bad.whl" },
    { filename: "md5.whl", url: "https://host/simple/pkg/md5.whl" },
  ]);
  const html = `<!DOCTYPE html><body>
    <a href="https://files/a.whl#sha256=${HASH}" data-requires-python="&gt;=3.9">a.whl</a><br/>
    <a data-yanked="broken" href="bad.whl#sha256=${HASH}">bad.whl</a>
    <a href='../b.whl?x=1&amp;y=2#sha256=${HASH}'> b.whl </a>
    <a href="none.whl">none.whl</a></body>`;
  expect(parseHtmlPage(html, base)).toEqual([
    { filename: "a.whl", url: "https://files/a.whl" },
    { filename: "bad.whl", url: "https://host/simple/pkg/bad.whl" },
    { filename: "b.whl", url: "https://host/simple/b.whl?x=1&y=2" },
    { filename: "none.whl", url: "https://host/simple/pkg/none.whl" },
  ]);
});

test("credentials in the address go to their own host alone; files are relative to the page", async () => {
  const { origin, asked } = await serve({
    files: { "/simple/pkg/": page("a.whl") },
    type: "application/vnd.pypi.simple.v1+json",
  });
  const withSecret = origin.replace("//", "//us%40er:pa%3Ass@");
  const file = await indexFile("pkg", "a.whl", settingsOf(`${withSecret}/simple/`));
  const authorization = `Basic ${Buffer.from("us@er:pa:ss").toString("base64")}`;
  expect(asked).toEqual([{ path: "/simple/pkg/", range: null, authorization }]);
  expect(file).toEqual({ filename: "a.whl", url: `${origin}/files/a.whl`, authorization });

  const elsewhere = JSON.stringify({
    files: [{ filename: "a.whl", url: "http://other.invalid/a.whl", hashes: { sha256: HASH } }],
  });
  const split = await serve({ files: { "/simple/pkg/": Buffer.from(elsewhere) }, type: "application/json" });
  const far = await indexFile("pkg", "a.whl", settingsOf(`${split.origin.replace("//", "//me:pw@")}/simple`));
  expect(far.authorization).toBe(null);
});

test("the next index is asked where one lacks the package or the file; without any, one sentence names them and no secret", async () => {
  const empty = await serve({ files: {} });
  const full = await serve({ files: { "/s/pkg/": page("a.whl") }, type: "application/json" });
  const other = await serve({ files: { "/s/pkg/": page("old.whl") }, type: "application/json" });
  const indexes = settingsOf(`${empty.origin}/s`, `${other.origin}/s`, `${full.origin}/s`);
  expect((await indexFile("pkg", "a.whl", indexes)).url).toBe(`${full.origin}/files/a.whl`);
  const dead = await deadOrigin();
  const secret = dead.replace("//", "//me:secret@");
  const failing = indexFile("pkg", "a.whl", settingsOf(`${empty.origin}/s`, `${other.origin}/s`, `${secret}/s`));
  await expect(failing).rejects.toMatchObject({
    code: "LS_INDEX",
    exitCode: 3,
    message: expect.stringMatching(/404.*has no a\.whl.*ECONNREFUSED/),
  });
  await expect(failing).rejects.toMatchObject({ message: expect.not.stringContaining("secret") });
});

test("a wheel that is no ZIP file is a sentence", async () => {
  const folder = temporaryFolder();
  writeTree(folder, { "a.whl": "not a wheel", "b.whl": zipOf({ "x/y.txt": Buffer.from("hello") }).subarray(0, 40) });
  for (const name of ["a.whl", "b.whl"]) {
    await expect(unpackWheel(join(folder, name), join(folder, "out"), (entry) => entry)).rejects.toMatchObject({
      code: "LS_WHEEL",
      exitCode: 3,
      message: expect.stringContaining(name),
    });
  }
});
