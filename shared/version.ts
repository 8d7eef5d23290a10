import { readFileSync } from "node:fs";

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
