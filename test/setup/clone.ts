import { chmodSync, cpSync, existsSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { programOnPath, ROOT, start, temporaryFolder, writeTree } from "./support.ts";

/**
 * A small package with the real bootstrap. `packages`: linked to those of this package, or none.
 */
export function smallClone(files: Record<string, string> = {}, options: { packages?: boolean } = {}): string {
  const clone = temporaryFolder();
  writeTree(clone, {
    "package.json": JSON.stringify({ name: "small", version: "1.0.0", type: "module" }),
    "package-lock.json": JSON.stringify({ name: "small", lockfileVersion: 3, packages: { "": { name: "small" } } }),
    ...files,
  });
  for (const path of ["deploy/bootstrap", "deploy/bootstrap.mjs", "deploy/lockstep.mjs"]) {
    cpSync(join(ROOT, path), join(clone, path), { recursive: true });
  }
  if (options.packages) symlinkSync(join(ROOT, "node_modules"), join(clone, "node_modules"));
  return clone;
}

/** Asks for one package. */
const WANTING = { name: "small", version: "1.0.0", type: "module", dependencies: { "p-retry": "7.1.1" } };
const WANTING_LOCK = {
  name: "small",
  version: "1.0.0",
  lockfileVersion: 3,
  packages: {
    "": { name: "small", version: "1.0.0", dependencies: { "p-retry": "7.1.1" } },
    "node_modules/p-retry": { version: "7.1.1", integrity: `sha512-${"A".repeat(86)}==` },
  },
};
export const WITH_PACKAGE = {
  "package.json": JSON.stringify(WANTING),
  "package-lock.json": JSON.stringify(WANTING_LOCK),
};

/** What a build needs besides sources. */
export const BUILDABLE = {
  "tsconfig.json": JSON.stringify({
    compilerOptions: {
      target: "es2023",
      module: "nodenext",
      rootDir: ".",
      outDir: "dist",
      strict: true,
      types: [],
      skipLibCheck: true,
    },
    include: ["coordinator", "worker", "shared", "deploy", "test"],
    exclude: ["worker/arithmetic/assembly", "dist", "node_modules"],
  }),
  "worker/arithmetic/asconfig.json": JSON.stringify({ entries: ["assembly/index.ts"], targets: { release: {} } }),
  "worker/arithmetic/assembly/index.ts": "export function twice(x: i32): i32 {\n  return 2 * x;\n}\n",
  "shared/one.ts": "export const one: number = 1;\n",
  "shared/two.ts": "export const two: number = 2;\n",
  "deploy/page.eta": "<p>hello</p>\n",
};

/** A folder for PATH with these programs of this machine, and nothing else. */
export function pathWith(...names: string[]): string {
  const folder = temporaryFolder();
  for (const name of names) {
    const program = name === "node" ? process.execPath : programOnPath(name);
    if (program !== null) symlinkSync(program, join(folder, name));
  }
  return folder;
}

/** A program made of a few lines of JavaScript, in a folder for PATH. */
export function fakeProgram(folder: string, name: string, script: string): void {
  writeTree(folder, { [name]: `#!${process.execPath}\n${script}\n` });
  chmodSync(join(folder, name), 0o755);
}

/** Runs a task of the bootstrap; `preload` is JavaScript that runs before it, to change what it sees. */
export function bootstrap(
  clone: string,
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; preload?: string; program?: string } = {},
) {
  const preload = options.preload === undefined ? [] : ["--import", `data:text/javascript,${options.preload}`];
  const program = join(clone, options.program ?? "deploy/bootstrap.mjs");
  const env = { PATH: process.env.PATH, HOME: clone, LOCKSTEP_CACHE: join(clone, "cache"), ...options.env };
  return start(process.execPath, [...preload, program, ...args], { cwd: clone, env });
}

export const isInstalled = (clone: string): boolean =>
  ["node_modules", "dist", "cache"].some((name) => existsSync(join(clone, name)));
