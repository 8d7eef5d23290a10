import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { onPath } from "../../deploy/up/nats-program.ts";
import { fileOf, KNOWN, metricsIn, RECORDS, RULES } from "./names.ts";

const read = (path: string) => readFileSync(fileOf(path), "utf8");
const alerts = [...RULES.matchAll(/- alert: (\w+)/g)].map((match) => match[1]!);

const promtool = onPath("promtool");
const why = promtool === null ? " (skipped: promtool is not installed)" : "";
const run = (...args: string[]) => {
  const { status, stdout, stderr } = spawnSync(promtool!, args, { encoding: "utf8" });
  return { status, text: `${stdout}${stderr}` };
};

describe.skipIf(promtool === null)(`the rules, by promtool${why}`, () => {
  it("are sound", () => {
    expect(run("check", "rules", "--lint-fatal", fileOf("deploy/prometheus/rules.yml"))).toMatchObject({ status: 0 });
    expect(run("check", "config", fileOf("deploy/prometheus/prometheus.yml"))).toMatchObject({ status: 0 });
  });

  it("fire when they should, with the words that they should, and only then", () => {
    const { status, text } = run("test", "rules", fileOf("test/monitoring/rules.yml"));
    expect(text).not.toContain("FAILED");
    expect(status).toBe(0);
  });
});

describe("the rules", () => {
  it.each([...alerts, ...RECORDS])("%s is tested", (name) => {
    const tests = read("test/monitoring/rules.yml");
    if (name.includes(":")) return expect(tests).toContain(`expr: ${JSON.stringify(name)}`);
    // Each alert is expected to fire at least once.
    const cases = tests.split("- alertname: ").filter((one) => one.startsWith(`${name}\n`));
    expect(cases.some((one) => one.includes("exp_alerts:"))).toBe(true);
  });

  it("have a section each in the runbook, which has no others", () => {
    const sections = [...read("deploy/prometheus/runbook.md").matchAll(/^## (\w+)\n(.+)/gm)];
    expect(sections.map((section) => section[1]).sort()).toEqual([...alerts].sort());
    for (const alert of alerts) {
      const anchor = `runbook: deploy/prometheus/runbook.md#${alert.toLowerCase()}`;
      expect(RULES.split(`- alert: ${alert}\n`)[1]!.split("- alert:")[0], alert).toContain(anchor);
    }
  });

  it("speak of metrics that exist", () => {
    const named = metricsIn(RULES);
    expect(named.length).toBeGreaterThan(30);
    expect(named.filter((name) => !KNOWN.has(name))).toEqual([]);
  });
});
