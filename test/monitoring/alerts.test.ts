import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { onPath } from "../../deploy/up/nats-program.ts";
import { ALERT_CASES, playAlerts } from "./alerts/play.ts";
import { containedPrometheus } from "./alerts/prometheus.ts";
import { scaledRules } from "./alerts/scaled-rules.ts";
import { docker, whyNoDocker } from "./docker.ts";
import { RULES } from "./names.ts";

const promtool = onPath("promtool");
const noPromtool = promtool === null ? " (skipped: promtool is not installed)" : "";

describe("rules with shorter windows", () => {
  it("are the shipped ones, apart from windows, waiting times and offsets", () => {
    const scaled = scaledRules(6);
    // One of each kind, by hand.
    expect(scaled).toContain("increase(lockstep_member_losses_total[20s])");
    expect(scaled).toContain("avg_over_time(run:lockstep_trained_images:rate1m[50s] offset 600s)");
    expect(scaled).toContain("for: 2500ms");
    const rest = (rules: string) => rules.replaceAll(/\[[^\]]*\]|for: \w+|offset \w+/g, "");
    expect(rest(scaled)).toBe(rest(RULES));
  });

  it.skipIf(promtool === null)(`are sound${noPromtool}`, () => {
    const directory = mkdtempSync(join(tmpdir(), "lockstep-rules-"));
    writeFileSync(join(directory, "rules.yml"), scaledRules(6));
    const { status, stderr } = spawnSync(promtool!, ["check", "rules", join(directory, "rules.yml")], {
      encoding: "utf8",
    });
    rmSync(directory, { recursive: true, force: true });
    expect(stderr).toBe("");
    expect(status).toBe(0);
  });
});

/** The same with the program that is installed: `npm run alerts`. */
describe.skipIf(!docker)(`faults of a real run, in a Prometheus of a container${whyNoDocker}`, () => {
  it("raise their alerts, which name the worker and end", { timeout: 600_000 }, async () => {
    const directory = mkdtempSync(join(tmpdir(), "lockstep-alerts-"));
    const results = await playAlerts({ directory, prometheus: containedPrometheus, factor: 6 });
    expect(results.map(({ named }) => named)).toEqual(ALERT_CASES.map(({ worker }) => [worker]));
    rmSync(directory, { recursive: true, force: true });
  });
});
