import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { timingDocument } from "../../shared/config/timing-document.ts";

test("coordinator/README.md lists every time-out, its default and its relations as the code has them", () => {
  const document = readFileSync(new URL("../../coordinator/README.md", import.meta.url), "utf8");
  const [, tables] = document.split("is refused with the reason.\n\n");
  expect(tables).toBe(`${timingDocument()}\n`);
});
