import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { DASHBOARDS } from "../../deploy/grafana/source/dashboards.ts";
import { generated } from "../../deploy/grafana/source/generate.ts";
import { onPath } from "../../deploy/up/nats-program.ts";
import { fileOf, KNOWN, metricsIn, RECORDS } from "./names.ts";
import { QUERIES } from "./queries.ts";

const folder = "deploy/grafana/dashboards";

describe("the dashboards", () => {
  it("are the files of deploy/grafana (write them with vitest --update)", async () => {
    for (const [name, content] of generated()) await expect(content).toMatchFileSnapshot(fileOf(`${folder}/${name}`));
    expect(readdirSync(fileOf(folder)).sort()).toEqual([...generated().keys()].sort());
  });

  it("ask for metrics and recording rules that exist", () => {
    const text = QUERIES.map(({ expression }) => expression).join("\n");
    const base = (name: string) => (KNOWN.has(name) ? name : name.replace(/_bucket$/, ""));
    expect(
      metricsIn(text)
        .map(base)
        .filter((name) => !KNOWN.has(name)),
    ).toEqual([]);
    for (const name of text.match(/(?:run|worker):lockstep_\w+:\w+/g) ?? []) expect(RECORDS).toContain(name);
  });

  it("say what each panel means, ask only about the chosen run, and fit into Grafana's 24 columns", () => {
    for (const { name, rows } of DASHBOARDS) {
      for (const { title, description, width } of rows.flatMap(({ panels }) => panels)) {
        expect(description, `${name}: ${title}`).toMatch(/\.$/);
        expect(24 % width, `${name}: ${title}`).toBe(0);
      }
    }
    for (const { expression, panel } of QUERIES) {
      const selectors = expression.match(/\{[^}]*\}/g) ?? [];
      expect(selectors.length, panel).toBeGreaterThan(0);
      for (const selector of selectors) expect(selector, panel).toContain('run=~"$run"');
    }
  });

  it("have the data source and run as variables, links to each other and the annotations", () => {
    for (const content of generated().values()) {
      const board = JSON.parse(content) as {
        uid: string;
        templating: { list: { name: string }[] };
        links: { tags: string[] }[];
        annotations: { list: { name: string; expr: string }[] };
        panels: { id?: number; type: string; datasource?: { uid: string } }[];
      };
      expect(board.templating.list.map(({ name }) => name)).toEqual(["datasource", "run"]);
      expect(board.links[0]?.tags).toEqual(["lockstep"]);
      expect(board.annotations.list.map(({ name }) => name)).toEqual([
        "Changes of view",
        "Failures",
        "Epochs",
        "Alerts",
      ]);
      for (const { type, datasource } of board.panels) if (type !== "row") expect(datasource?.uid).toBe("$datasource");
    }
  });
});

const linter = onPath("dashboard-linter");
const noLinter = linter === null ? " (skipped: Grafana's dashboard-linter is not on PATH)" : "";

describe.skipIf(linter === null)(`the dashboards, by the public linter${noLinter}`, () => {
  it.each([...generated().keys()])("%s has nothing to be improved", (name) => {
    const { status, stdout, stderr } = spawnSync(linter!, ["lint", "--strict", fileOf(`${folder}/${name}`)], {
      encoding: "utf8",
    });
    expect(`${stdout}${stderr}`).not.toMatch(/error:/i);
    expect(status).toBe(0);
  });
});
