import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** Version of the package, from its package.json beside or above the built tree. */
export const version: string = (() => {
  for (const place of ["../package.json", "../../package.json"]) {
    try {
      return (JSON.parse(readFileSync(new URL(place, import.meta.url), "utf8")) as { version: string }).version;
    } catch {
      // The other place.
    }
  }
  return "unknown";
})();

/** Folders whose code makes the bits of a run, or says them to others. */
const BITS = [
  "shared/data",
  "shared/model",
  "shared/plan",
  "shared/protocol",
  "shared/rpc",
  "worker/arithmetic",
  "worker/compute",
  "worker/exchange",
  "worker/loader",
  "worker/member",
];

/** Eight digits of a hash over the built code that makes a run's bits; "source" where it runs from its sources. */
const codeHash = (): string => {
  if (import.meta.url.endsWith(".ts")) return "source";
  const hash = createHash("sha256");
  const root = fileURLToPath(new URL("..", import.meta.url));
  for (const folder of BITS) {
    const files = readdirSync(`${root}${folder}`, { recursive: true, encoding: "utf8" });
    for (const file of files.filter((name) => /\.(js|wasm)$/.test(name)).sort())
      hash.update(`${folder}/${file}`).update(readFileSync(`${root}${folder}/${file}`));
  }
  return hash.digest("hex").slice(0, 8);
};

let ownMake: string | null = null;

/** Version and code of this process as one word (semver.org, build metadata): 1.2.3+0123abcd. Read once, from the built files. */
export const make = (): string => {
  ownMake ??= `${version}+${codeHash()}`;
  return ownMake;
};

/**
 * Why a process of another make cannot work with this one; null where it can.
 * @param theirs its `make`
 */
export function sentenceOfDifference(
  theirs: string,
  ours = make(),
): { readonly code: `LS_${string}`; readonly message: string } | null {
  const [[theirVersion, theirCode], [ourVersion, ourCode]] = [theirs.split("+"), ours.split("+")];
  if (theirVersion !== ourVersion)
    return {
      code: "LS_VERSION",
      message: `The worker runs Lockstep ${theirVersion}, the run ${ourVersion}. Use the coordinator's version on all machines.`,
    };
  if (theirCode === ourCode) return null;
  return {
    code: "LS_CODE",
    message: `The worker's code that makes the bits is ${theirCode}, the run's ${ourCode}, both of version ${ourVersion}. Take the same commit on all machines and build it.`,
  };
}
