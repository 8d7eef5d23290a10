import { describe, expect, test } from "vitest";
import { Armed } from "../../shared/faults/armed.ts";
import {
  COORDINATOR_FAULTS,
  COORDINATOR_MOMENTS,
  faultText,
  parseFault,
  suitsCoordinator,
  suitsWorker,
  WORKER_FAULTS,
  WORKER_MOMENTS,
} from "../../shared/faults/fault.ts";
import { allCells, cellText, parseCell } from "./cell.ts";

describe("a fault as text", () => {
  test.each([
    ["kill", { name: "kill", millis: 0, moment: null }],
    ["freeze:2500", { name: "freeze", millis: 2500, moment: null }],
    ["stuck@backward", { name: "stuck", millis: 0, moment: "backward" }],
    ["freeze:1@rest", { name: "freeze", millis: 1, moment: "rest" }],
  ])("%s", (text, fault) => {
    expect(parseFault(text)).toEqual(fault);
    expect(faultText(parseFault(text)!)).toBe(text);
  });

  test.each([
    "",
    "burn",
    "kill@",
    "kill@noon",
    "freeze:",
    "freeze:-1",
    "freeze:99999999",
    "kill@update@rest",
    "toString",
  ])("%j is none", (text) => expect(parseFault(text)).toBeNull());

  test("coordinators and workers have moments of their own", () => {
    expect(suitsCoordinator(parseFault("kill@step")!)).toBe(true);
    expect(suitsWorker(parseFault("kill@step")!)).toBe(false);
    expect(suitsCoordinator(parseFault("flip-weights")!)).toBe(false);
    expect(suitsCoordinator(parseFault("kill@forward")!)).toBe(false);
    expect(suitsWorker(parseFault("kill@forward")!)).toBe(true);
  });
});

test("armed faults wait for their moments, each strikes once, the oldest first", () => {
  const armed = new Armed();
  const [first, second] = [parseFault("kill@update")!, parseFault("garbage@update")!];
  armed.add(first);
  armed.add(second);
  expect(armed.take("forward")).toBeNull();
  expect(armed.take("update")).toBe(first);
  expect(armed.take("update")).toBe(second);
  expect(armed.take("update")).toBeNull();
});

test("the matrix holds every fault at every moment, and each cell can be named on the command line", () => {
  const texts = allCells().map(cellText);
  expect(new Set(texts).size).toBe(texts.length);
  for (const text of texts) expect(cellText(parseCell(text))).toBe(text);
  const matrix = texts.map((text) => text.split("/")[1]!.replace(/:\d+/, ""));
  const workers = Object.keys(WORKER_FAULTS).filter((name) => name !== "slow");
  for (const name of workers)
    for (const moment of Object.keys(WORKER_MOMENTS)) expect(matrix).toContain(`${name}@${moment}`);
  for (const name of Object.keys(COORDINATOR_FAULTS))
    for (const moment of Object.keys(COORDINATOR_MOMENTS))
      expect(texts.some((text) => /^coordinator\//.test(text) && text.includes(name) && text.endsWith(moment))).toBe(
        true,
      );
});
