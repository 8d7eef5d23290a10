import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { onPath } from "../../deploy/up/nats-program.ts";
import { scratchDirectory } from "../security/support.ts";
import { find, helm, render, type Values } from "./chart.ts";

/** A run as Prometheus has seen it for half an hour, or until `until` minutes. */
interface Seen {
  readonly shards: number;
  readonly computing: number;
  readonly loading?: number;
  /** Share of their time in which the workers compute. */
  readonly efficiency?: number;
  readonly phase?: string;
  readonly planned?: number;
  /** Steps that were done at the beginning, and each minute. */
  readonly steps?: readonly [number, number];
  readonly until?: number;
}

const promtool = onPath("promtool");
const lacks = [helm === null ? "helm" : "", promtool === null ? "promtool" : ""].filter((name) => name !== "");
const why = lacks.length === 0 ? "" : ` (skipped: ${lacks.join(" and ")} not installed)`;

/** The number that the chart's query gives after some minutes; null for none. */
function wanted(seen: Seen, values: Values = {}, minutes = 20): number | null {
  const [trigger] = find(render({ "autoscaling.enabled": true, ...values }), "ScaledObject", "x-lockstep-workers").spec!
    .triggers as readonly { readonly metadata: { readonly query: string } }[];
  const directory = scratchDirectory();
  const rule = { record: "wanted", expr: trigger!.metadata.query };
  writeFileSync(
    join(directory, "rules.yml"),
    JSON.stringify({ groups: [{ name: "g", interval: "1m", rules: [rule] }] }),
  );
  const { shards, computing, loading = 0, efficiency = 0.7, phase = "running", planned = 1000, steps = [0, 1] } = seen;
  const { until = 60 } = seen;
  const series = (name: string, labels: string, [first, growth]: readonly [number, number]) => ({
    series: `${name}{namespace="lab",release="x",run="r"${labels === "" ? "" : `,${labels}`}}`,
    values: `${first}+${growth}x${until}`,
  });
  const state = (name: string, count: number) => series("lockstep_members", `state="${name}"`, [count, 0]);
  const workers = Array.from({ length: computing }, (_, n) =>
    series("lockstep_phase_seconds_total", `phase="compute",worker="w${n}"`, [0, 60 * efficiency]),
  );
  const input = [
    ...workers,
    ...["forming", "running", "evaluating"].map((name) =>
      series("lockstep_phase", `phase="${name}"`, [name === phase ? 1 : 0, 0]),
    ),
    ...[state("computing", computing), state("loading", loading), state("away", 3)],
    ...[series("lockstep_shards", "", [shards, 0]), series("lockstep_planned_steps", "", [planned, 0])],
    ...[series("lockstep_step", "", steps), series("lockstep_steps_total", 'outcome="applied"', steps)],
    // Another run of the same Prometheus.
    { series: 'lockstep_shards{namespace="lab",release="y",run="q"}', values: "64x60" },
    { series: 'lockstep_members{namespace="lab",release="y",run="q",state="computing"}', values: "50x60" },
  ];
  // A value that cannot be: promtool says what it has found instead.
  const asked = { expr: "wanted", eval_time: `${minutes}m`, exp_samples: [{ labels: "wanted", value: -1 }] };
  const tests = [{ interval: "1m", input_series: input, promql_expr_test: [asked] }];
  writeFileSync(
    join(directory, "test.yml"),
    JSON.stringify({ rule_files: ["rules.yml"], evaluation_interval: "1m", tests }),
  );
  const { stdout, stderr } = spawnSync(promtool!, ["test", "rules", join(directory, "test.yml")], { encoding: "utf8" });
  const said = `${stdout}${stderr}`;
  const got = /got:\s*(?:nil|\[?\s*(?:Labels:)?.*?[Vv]alue:?\s*(\S+?)[\]\s]|.*?\s(-?[\d.eE+]+)\s*$)/m.exec(said);
  if (got === null) throw new Error(said);
  const found = got[1] ?? got[2];
  return found === undefined ? null : Number(found);
}

describe.skipIf(lacks.length > 0)(`the number of workers that a run wants${why}`, () => {
  it.each([
    ["the next useful number where they compute most of the time", 4, 0.9, 8],
    ["no more than shards", 8, 0.95, 8],
    ["the next useful one of three, whose largest range has three", 3, 0.9, 4],
    ["what there is in between", 4, 0.7, 4],
    ["what there is, also where it is no useful number", 6, 0.6, 6],
    ["the useful number below where they wait for each other", 8, 0.4, 4],
    ["of two, one", 2, 0.3, 1],
  ] as const)("is %s", (_name, computing, efficiency, expected) => {
    expect(wanted({ shards: 8, computing, efficiency })).toBe(expected);
  });

  it("is never below the fewest that were wished, and counts who is on the way before it runs", () => {
    const values = { "autoscaling.minReplicas": 3 };
    expect(wanted({ shards: 8, computing: 0, phase: "forming" }, values)).toBe(3);
    expect(wanted({ shards: 8, computing: 0, loading: 5, phase: "forming" }, values)).toBe(5);
    expect(wanted({ shards: 8, computing: 8, efficiency: 0.1 }, { "autoscaling.minReplicas": 6 })).toBe(6);
    expect(wanted({ shards: 8, computing: 4, efficiency: 0, phase: "evaluating" })).toBe(4);
  });

  it("stays while a coordinator is away for minutes, and is none once nobody has coordinated for ten", () => {
    const seen = { shards: 8, computing: 4, until: 20 };
    expect(wanted(seen, {}, 28)).toBe(4);
    expect(wanted(seen, {}, 45)).toBeNull();
  });

  it("is at least what a deadline takes, at the rate of now, rounded up to a useful number", () => {
    // At minute 20: 600 steps are left; two workers do 60 a minute; 600/30 = 20 worker-minutes.
    const seen = { shards: 8, computing: 2, planned: 1800, steps: [0, 60] } as const;
    const deadline = (minute: number) => wanted(seen, { "autoscaling.deadline": minute * 60 });
    expect(deadline(60)).toBe(2);
    expect(deadline(28)).toBe(3);
    // Three workers have ranges of three, so that they are 8/3 times as fast as one; 20/7 is more.
    expect(deadline(27)).toBe(4);
    expect(deadline(25)).toBe(4);
    expect(deadline(24)).toBe(8);
    expect(deadline(10)).toBe(8);
  });
});
