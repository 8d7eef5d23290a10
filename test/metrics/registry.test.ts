import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { onPath } from "../../deploy/up/nats-program.ts";
import { createMetrics, METRICS, type MetricDefinition, Metrics, metricsTable } from "../../shared/metrics/registry.ts";
import { metricsDocument, PROCESS_METRICS } from "../../shared/metrics/table.ts";
import { viewReason } from "../../shared/metrics/view-reason.ts";

const entries: readonly (readonly [string, MetricDefinition])[] = Object.entries(METRICS);

describe("the table of metrics", () => {
  it.each(entries)("%s follows the naming rules of Prometheus", (name, { type, unit, labels, help }) => {
    expect(name).toMatch(/^lockstep_[a-z][a-z0-9]*(_[a-z0-9]+)*$/);
    // A counter says so, and nothing else does; no name repeats what belongs into a label or is of the type.
    expect(name.endsWith("_total")).toBe(type === "counter");
    expect(name).not.toMatch(
      /_(count|sum|bucket|gauge|counter|milliseconds|ms|millis|minutes|percent|kilobytes|megabytes)(_|$)/,
    );
    if (unit !== null) expect(name).toMatch(new RegExp(`_${unit}(_total)?$`));
    else expect(name).not.toMatch(/_(seconds|bytes|ratio)(_|$)/);
    if (name.endsWith("_info")) expect(type).toBe("gauge");
    for (const label of Object.keys(labels))
      expect(label).toMatch(/^(?!__|le$|quantile$|job$|instance$)[a-z][a-z0-9_]*$/);
    expect(help).toMatch(/^[A-Z0-9].*\.$/);
  });

  it("bounds the values of every label", () => {
    for (const [name, { labels }] of entries) {
      for (const values of Object.values(labels)) {
        if (typeof values === "string") expect(values, name).toMatch(/^one per /);
        else expect(values.length, name).toBeGreaterThan(1);
      }
    }
  });

  it("is what the documentation says (write it with vitest --update)", async () => {
    await expect(metricsDocument()).toMatchFileSnapshot("../../shared/metrics/README.md");
  });

  it("becomes documentation with one row for each metric", () => {
    const rows = metricsTable().split("\n");
    for (const [name] of entries) expect(rows.filter((row) => row.startsWith(`| \`${name}\` |`))).toHaveLength(1);
    for (const name of Object.keys(PROCESS_METRICS))
      expect(rows.some((row) => row.startsWith(`| \`${name}\` |`))).toBe(true);
    const own = rows.filter((row) => row.startsWith("| `lockstep_"));
    expect(new Set(own.map((row) => row.split(" | ").length))).toEqual(new Set([6]));
  });
});

/** Samples of the text format, read by a parser of our own: name{labels} value. */
const samples = async (metrics: Metrics): Promise<Map<string, number>> => {
  const text = await metrics.registry.metrics();
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ") + 1))]),
  );
};

describe("the metrics of a process", () => {
  it.each(["worker", "coordinator"] as const)("are the %s's own ones and Node's", async (part) => {
    const text = await createMetrics(part).registry.metrics();
    for (const [name, definition] of entries) {
      const own = definition.part === part || definition.part === "both";
      expect(text.includes(`# TYPE ${name} ${definition.type}\n`), name).toBe(own);
    }
    for (const name of Object.keys(PROCESS_METRICS)) expect(text, name).toContain(`# TYPE ${name} `);
  });

  it("are set, added to, and raised to totals that are counted elsewhere", async () => {
    const metrics = new Metrics("worker");
    metrics.set("lockstep_shard_seconds", 0.25);
    metrics.add("lockstep_images_total", 3);
    metrics.add("lockstep_images_total", 4);
    for (const total of [10, 25, 25, 7, Number.NaN])
      metrics.total("lockstep_exchange_bytes_total", total, { direction: "sent" });
    metrics.total("lockstep_exchange_bytes_total", 2, { direction: "received" });
    const found = await samples(metrics);
    expect(found.get("lockstep_shard_seconds")).toBe(0.25);
    expect(found.get("lockstep_images_total")).toBe(7);
    expect(found.get('lockstep_exchange_bytes_total{direction="sent"}')).toBe(25);
    expect(found.get('lockstep_exchange_bytes_total{direction="received"}')).toBe(2);
  });

  it("pass over what belongs to the other kind of process, and may be not finite", async () => {
    const metrics = new Metrics("coordinator");
    metrics.add("lockstep_images_total", 1);
    metrics.set("lockstep_loss", Number.NaN);
    const found = await samples(metrics);
    expect(found.has("lockstep_images_total")).toBe(false);
    expect(found.get("lockstep_loss")).toBeNaN();
  });

  const promtool = onPath("promtool");
  it.skipIf(promtool === null)("satisfy promtool's linter (skipped where promtool is not installed)", async () => {
    for (const part of ["worker", "coordinator"] as const) {
      const metrics = createMetrics(part);
      const own = (await metrics.registry.metrics()).split("\n").filter((line) => line.includes("lockstep_"));
      const { status, stderr, stdout } = spawnSync(promtool!, ["check", "metrics"], {
        input: `${own.join("\n")}\n`,
        encoding: "utf8",
      });
      expect(`${stdout}${stderr}`).toBe("");
      expect(status).toBe(0);
    }
  });
});

describe("the reason of a view, as a label", () => {
  it.each([
    ["start", "start"],
    ["take-over", "take-over"],
    ["announced before the take-over", "take-over"],
    ["join: worker-3", "join"],
    ["level: lost-boy", "level"],
    ["leave: worker-1; join: worker-2", "leave"],
    ["not level in time: worker-1", "late"],
    ["stop: interrupted", "stop"],
    ["worker-1 lost: silent for 1.5 s", "loss"],
    ["mismatch at step 12", "mismatch"],
    ["states differ at rest", "mismatch"],
    ["something new", "other"],
  ])("of %j is %s", (sentence, kind) => {
    expect(viewReason(sentence)).toBe(kind);
  });
});
