import { appendFileSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { BUILDABLE, bootstrap, smallClone } from "./clone.ts";
import { ROOT, start, temporaryFolder } from "./support.ts";

const build = (clone: string) => bootstrap(clone, ["build"]).ended;

test("builds programs, arithmetic and assets; an unchanged tree is left alone, a change replaces what differs", async () => {
  const clone = smallClone(BUILDABLE, { packages: true });
  const dist = (path: string) => join(clone, "dist", path);
  const inode = (path: string) => statSync(dist(path)).ino;
  expect(await build(clone)).toMatchObject({ code: 0, stderr: "Building (about 5 s).\n" });
  expect(readFileSync(dist("deploy/page.eta"), "utf8")).toBe("<p>hello</p>\n");
  const { instance } = await WebAssembly.instantiate(readFileSync(dist("worker/arithmetic/arithmetic.wasm")), {
    env: {},
  });
  expect((instance.exports as { twice: (x: number) => number }).twice(21)).toBe(42);
  expect(await import(pathToFileURL(dist("shared/one.js")).href)).toMatchObject({ one: 1 });

  const [one, two] = [inode("shared/one.js"), inode("shared/two.js")];
  expect(await build(clone)).toMatchObject({ code: 0, stderr: "" });

  writeFileSync(dist("shared/of-somebody-else.js"), "");
  writeFileSync(join(clone, "shared/one.ts"), "export const one: number = 11;\n");
  writeFileSync(join(clone, "shared/three.ts"), "export const three: number = 3;\n");
  rmSync(join(clone, "deploy/page.eta"));
  expect(await build(clone)).toMatchObject({ code: 0, stderr: "Building (about 5 s).\n" });
  expect(inode("shared/one.js")).not.toBe(one);
  expect(inode("shared/two.js")).toBe(two);
  expect(existsSync(dist("shared/three.js"))).toBe(true);
  expect(existsSync(dist("deploy/page.eta"))).toBe(false);
  expect(existsSync(dist("shared/of-somebody-else.js"))).toBe(true);

  // Sources that do not compile leave the tree that works.
  appendFileSync(join(clone, "shared/one.ts"), 'export const wrong: number = "text";\n');
  const failed = await build(clone);
  expect(failed.code).toBe(1);
  expect(failed.stderr).toMatch(/shared\/one\.ts.*TS2322[\s\S]*\[LS_BUILD\]\n$/);
  expect(readFileSync(dist("shared/one.js"), "utf8")).toContain("11");
  const counted = await bootstrap(clone, ["test"]).ended;
  expect(counted).toMatchObject({ code: 1, stdout: "0 passed, 1 failed, 0 skipped\n" });
});

test("two builds at once: one builds, the other waits and finds it done", async () => {
  const clone = smallClone(BUILDABLE, { packages: true });
  const ends = await Promise.all([build(clone), build(clone), build(clone)]);
  expect(ends.map(({ code }) => code)).toEqual([0, 0, 0]);
  expect(ends.filter(({ stderr }) => stderr.includes("Building")).length).toBe(1);
  expect(existsSync(join(clone, "dist/.growing"))).toBe(false);
});

test("the lock ends with its process, however that ends", async () => {
  const folder = temporaryFolder();
  const module = pathToFileURL(join(ROOT, "deploy/bootstrap/lock.mjs")).href;
  const hold = (work: string) =>
    start(process.execPath, [
      ...["--input-type=module", "-e"],
      `import { locked } from ${JSON.stringify(module)};
       await locked(${JSON.stringify(folder)}, () => console.log("waits"), async () => { ${work} });`,
    ]);
  const first = hold('console.log("holds"); await new Promise((r) => setTimeout(r, 1e6));');
  await new Promise((resolve) => first.child.stdout!.once("data", resolve));
  const second = hold('console.log("holds");');
  await new Promise((resolve) => second.child.stdout!.once("data", resolve));
  expect(second.output.stdout).toBe("waits\n");
  first.child.kill("SIGKILL");
  expect(await second.ended).toMatchObject({ code: 0, stdout: "waits\nholds\n" });
});

test("the last line of a test run counts what passed, failed and was skipped, and checks of types and style", async () => {
  const suite = `import { expect, test } from "vitest";

test("passes", () => expect(1).toBe(1));
test("passes too", () => expect(2).toBe(2));
test.skip("is skipped", () => {});
test.todo("is to be written");
`;
  const files = {
    ...BUILDABLE,
    "biome.json": `{
  "files": { "includes": ["shared/**", "test/**"] },
  "formatter": { "indentStyle": "space", "lineWidth": 120 }
}
`,
    "vitest.config.js": 'export default { test: { include: ["test/**/*.test.ts"] } };\n',
    "deploy/cli/main.ts": "export {};\n",
    "test/small.test.ts": suite,
  };
  const clone = smallClone(files, { packages: true });
  const run = (...args: string[]) => bootstrap(clone, ["test", ...args]).ended;
  const lastLine = (text: string) => text.split("\n").slice(-2);
  const good = await run();
  expect([good.code, ...lastLine(good.stdout)], good.stderr).toEqual([0, "2 passed, 0 failed, 2 skipped", ""]);
  // One failure in the suite, one in the style.
  writeFileSync(join(clone, "test/small.test.ts"), suite.replace("toBe(2)", "toBe(3)"));
  writeFileSync(join(clone, "shared/two.ts"), "export let two = 2\n");
  const bad = await run();
  expect([bad.code, ...lastLine(bad.stdout)]).toEqual([1, "1 passed, 2 failed, 2 skipped", ""]);
  // A file that cannot be loaded holds no test, and is a failure all the same.
  writeFileSync(join(clone, "shared/two.ts"), "export const two: number = 2;\n");
  writeFileSync(join(clone, "test/small.test.ts"), 'throw new Error("does not load");\n');
  const broken = await run();
  expect([broken.code, ...lastLine(broken.stdout)]).toEqual([1, "0 passed, 1 failed, 0 skipped", ""]);
});
