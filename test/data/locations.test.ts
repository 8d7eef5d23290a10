import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { cacheDirectory, cachedStl10, obtainDataDirectory, resolveDataDirectory } from "../../deploy/data/locations.ts";
import { STL10_FILES } from "../../shared/data/stl10.ts";
import { temporary, writeSmallSet } from "./support.ts";

const set = (directory: string) => writeSmallSet(directory, { train: [1, 2], test: [1] });

describe("where the data set comes from", () => {
  it("is --data, else LOCKSTEP_DATA, else the cache, else the archive", async () => {
    const [option, environment, cache] = [temporary("option"), temporary("environment"), temporary("cache")];
    const env = { LOCKSTEP_DATA: environment };
    const chosen = (more: object) => resolveDataDirectory({ cache, env: {}, ...more });
    expect(await chosen({ option, env })).toEqual({ directory: option, source: "option" });
    expect(await chosen({ env })).toEqual({ directory: environment, source: "environment" });
    expect(await chosen({})).toEqual({ directory: cachedStl10(cache), source: "archive" });
    mkdirSync(cachedStl10(cache), { recursive: true });
    for (const { name, bytes } of STL10_FILES.slice(0, 2)) {
      writeFileSync(join(cachedStl10(cache), name), new Uint8Array(Math.min(bytes, 10)));
    }
    expect((await chosen({})).source).toBe("archive"); // not complete
  });

  it("may be the folder around the archive's own folder", async () => {
    const parent = temporary("option");
    set(join(parent, "stl10_binary"));
    expect((await resolveDataDirectory({ option: parent })).directory).toBe(join(parent, "stl10_binary"));
    set(parent);
    expect((await resolveDataDirectory({ option: parent })).directory).toBe(parent);
  });

  it("is fetched only where nothing else is named", async () => {
    const option = set(temporary("option"));
    const url = "http://127.0.0.1:9/nothing-listens-here";
    expect(await obtainDataDirectory({ option, url })).toEqual({ directory: option, source: "option" });
    const fetching = obtainDataDirectory({ env: {}, cache: temporary("cache"), url, attempts: 1 });
    await expect(fetching).rejects.toMatchObject({ code: "LS_FETCH_UNREACHABLE", exitCode: 3 });
  });

  it("caches where LOCKSTEP_CACHE says", () => {
    expect(cacheDirectory({ LOCKSTEP_CACHE: "/somewhere" })).toBe("/somewhere");
    expect(cacheDirectory({})).toMatch(/lockstep/);
  });
});
