import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { onPath } from "../../deploy/up/nats-program.ts";
import { type Lockstep, lives, lockstep, processesOf, type Scratch, scratch, until } from "../up/support.ts";

import { asked, emptyBecause, QUERIES } from "./queries.ts";

interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [number, string];
}

const missing = onPath("prometheus") === null;
const why = missing ? " (skipped: Prometheus is not installed)" : "";

/** A real run of two workers, scraped by a real Prometheus that `up --monitoring` has started. */
describe.skipIf(missing)(`up --monitoring, with a real Prometheus${why}`, () => {
  let place: Scratch;
  let out: string;
  let run: Lockstep;
  let prometheus: string;

  beforeAll(async () => {
    place = scratch();
    out = join(place.path, "run");
    const data = join(place.path, "data");
    await writeSynthetic(data, { train: 240, test: 60, classes: 10, side: 48, seed: 3 });
    const length = ["--epochs", "400", "--no-eval"];
    run = lockstep(["up", "--monitoring", "--workers", "2", "--data", data, "--out", out, ...length]);
    await until(() => run.err().includes("Prometheus with rules and alerts"));
    prometheus = /(http:\/\/127\.0\.0\.1:\d+)\/alerts/.exec(run.err())![1]!;
  });
  afterAll(async () => {
    run?.signal("SIGINT");
    await run?.ended;
    place?.[Symbol.dispose]();
  });

  const query = async (text: string): Promise<readonly Sample[]> => {
    const answer = await fetch(`${prometheus}/api/v1/query?query=${encodeURIComponent(text)}`);
    const { status, data, error } = (await answer.json()) as {
      status: string;
      error?: string;
      data: { result: readonly Sample[] };
    };
    if (status !== "success") throw new Error(`${text}: ${error}`);
    return data.result;
  };
  const values = async (text: string) => (await query(text)).map(({ value }) => Number(value[1]));

  it("finds the coordinator and both workers by itself and records how the run goes", async () => {
    await until(async () => (await values("run:lockstep_trained_images:rate1m")).some((rate) => rate > 0));
    await until(async () => (await query('up{job="lockstep"} == 1')).length === 3);
    const up = await query('up{job="lockstep"}');
    expect(up.map(({ metric }) => [metric.part, metric.worker ?? ""].join(" ")).sort()).toEqual([
      "coordinator ",
      "worker worker-0",
      "worker worker-1",
    ]);
    const [run] = new Set(up.map(({ metric }) => metric.run));
    expect(run).toBe((JSON.parse(readFileSync(join(out, "config.json"), "utf8")) as { runId: string }).runId);
    await until(async () => (await values("run:lockstep_efficiency:ratio_rate1m")).some((share) => share > 0));
    expect((await values("run:lockstep_efficiency:ratio_rate1m"))[0]).toBeLessThanOrEqual(1);
    expect(await values("sum(lockstep_hash_checks_total{outcome='equal'}) > 0")).toHaveLength(1);
    expect(await values("sum(lockstep_hash_checks_total{outcome='different'})")).toEqual([0]);
  });

  it("has every rule in force and, in a run that goes well, no alert but perhaps that of a busy machine", async () => {
    const answer = await fetch(`${prometheus}/api/v1/rules`);
    const { data } = (await answer.json()) as { data: { groups: { rules: { name: string; health: string }[] }[] } };
    const rules = data.groups.flatMap((group) => group.rules);
    expect(rules.length).toBeGreaterThan(20);
    expect(rules.filter(({ health }) => health === "err")).toEqual([]);
    const busy = /LockstepStragglerPersistent|LockstepEventLoopBlocked|LockstepDataStall|LockstepDiskFilling/;
    const firing = (await query('ALERTS{alertstate="firing"}')).map(({ metric }) => metric.alertname);
    expect(firing.filter((name) => !busy.test(name ?? ""))).toEqual([]);
  });

  it("names the worker that dies, and the list of targets follows", async () => {
    const [pid] = processesOf(out, "--name\0worker-1");
    process.kill(pid!, "SIGKILL");
    await until(() => !lives(pid!));
    const lost = 'ALERTS{alertname="LockstepWorkerLost",alertstate="firing"}';
    await until(async () => (await query(lost)).length > 0);
    expect((await query(lost)).map(({ metric }) => metric.worker)).toEqual(["worker-1"]);
    const listed = () => JSON.parse(readFileSync(join(out, "targets.json"), "utf8")) as { targets: string[] }[];
    await until(() => listed().length === 3);
    const targets = (await query('up{job="lockstep"} == 1')).map(({ metric }) => metric.instance);
    expect(targets.length).toBeGreaterThanOrEqual(2);
  });

  it("answers every query of the dashboards with data, those about GPUs with none", async () => {
    const { runId } = JSON.parse(readFileSync(join(out, "config.json"), "utf8")) as { runId: string };
    const empty = async () => {
      const answers = await Promise.all(QUERIES.map(({ expression }) => query(asked(expression, runId))));
      return QUERIES.filter((one, index) => answers[index]!.length === 0 && emptyBecause(one) === null);
    };
    // The dead worker is back and level, and a while has passed since, before the last of them has something to tell.
    await until(async () => (await empty()).length === 0);
    if (process.env.LOCKSTEP_QUERIES === undefined) return;
    const rows = await Promise.all(
      QUERIES.map(async (one) => {
        const found = await query(asked(one.expression, runId));
        const first = found[0] === undefined ? (emptyBecause(one) ?? "") : figureOf(found[0]);
        return `| ${one.dashboard} | ${one.panel} | ${found.length} | ${first} |`;
      }),
    );
    writeFileSync(
      process.env.LOCKSTEP_QUERIES,
      `| dashboard | panel | series | first |\n|---|---|---:|---|\n${rows.join("\n")}\n`,
    );
  });

  it("ends with the run, and lists nobody any more", async () => {
    run.signal("SIGINT");
    expect((await run.ended).code).toBe(130);
    expect(processesOf(out)).toEqual([]);
    expect(JSON.parse(readFileSync(join(out, "targets.json"), "utf8"))).toEqual([]);
    expect(existsSync(join(out, "monitoring", "data"))).toBe(true);
  });
});

const figureOf = ({ metric, value }: Sample): string => {
  const { worker, part, reason, outcome, phase } = metric;
  const which = [worker ?? part, reason ?? outcome ?? phase].filter((text) => text !== undefined).join(" ");
  return `${Number(Number(value[1]).toPrecision(4))}${which === "" ? "" : ` (${which})`}`;
};
