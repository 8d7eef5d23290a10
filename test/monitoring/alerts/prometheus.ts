import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort, prometheusConfig, startPrometheus } from "../../../deploy/up/prometheus.ts";
import { Reaper } from "../../../deploy/up/reaper.ts";

/** A Prometheus that scrapes a run and evaluates rules. */
export interface RunningPrometheus {
  readonly url: string;
  stop(): Promise<void>;
}

/** @param directory of the run. @param rules a file of rules. @param seconds between two scrapes */
export type StartPrometheus = (directory: string, rules: string, seconds: number) => Promise<RunningPrometheus>;

/** The program that is installed, started as `up --monitoring` starts it. */
export const nativePrometheus =
  (program: string): StartPrometheus =>
  async (directory, rules, seconds) => {
    const reaper = new Reaper();
    const said: string[] = [];
    const note = (text: string) => void said.push(text);
    const server = await startPrometheus({ program, directory, seconds, rules, note }, reaper);
    if (server === null) throw new Error(said.join(" "));
    const stop = async () => {
      await server.keeper.stop(5000);
      reaper.close();
    };
    return { url: server.url, stop };
  };

const IMAGE = "prom/prometheus:v2.53.5";
const INSIDE = "/lockstep";

/** The official image; the network is the host's, since workers listen on loopback. */
export const containedPrometheus: StartPrometheus = async (directory, rules, seconds) => {
  const { GenericContainer, Wait } = await import("testcontainers");
  const port = await freePort();
  const folder = join(directory, "monitoring");
  mkdirSync(folder, { recursive: true });
  const config = join(folder, "contained.yml");
  writeFileSync(config, prometheusConfig(INSIDE, "/etc/prometheus/rules.yml", seconds));
  const container = await new GenericContainer(IMAGE)
    .withNetworkMode("host")
    .withBindMounts([{ source: directory, target: INSIDE, mode: "ro" }])
    .withCopyFilesToContainer([
      { source: config, target: "/etc/prometheus/prometheus.yml" },
      { source: rules, target: "/etc/prometheus/rules.yml" },
    ])
    .withCommand(["--config.file=/etc/prometheus/prometheus.yml", `--web.listen-address=127.0.0.1:${port}`])
    .withWaitStrategy(Wait.forLogMessage(/ready to receive web requests/))
    .start();
  return { url: `http://127.0.0.1:${port}`, stop: async () => void (await container.stop()) };
};

/** A series of an instant query's answer. */
export interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [number, string];
}

/** Asks for the present value of an expression. @throws Error of Prometheus, with the expression */
export async function query(url: string, expression: string): Promise<readonly Sample[]> {
  const answer = await fetch(`${url}/api/v1/query?query=${encodeURIComponent(expression)}`);
  const { status, data, error } = (await answer.json()) as {
    status: string;
    error?: string;
    data: { result: readonly Sample[] };
  };
  if (status !== "success") throw new Error(`${expression}: ${error}`);
  return data.result;
}

/** An alert that fires now. */
export interface Firing {
  readonly alert: string;
  /** Empty where it names none. */
  readonly worker: string;
}

export const firing = async (url: string): Promise<readonly Firing[]> =>
  (await query(url, 'ALERTS{alertstate="firing"}')).map(({ metric }) => ({
    alert: metric.alertname ?? "",
    worker: metric.worker ?? "",
  }));

/** @throws Error where it does not come in time */
export async function untilAlerts(
  what: string,
  url: string,
  millis: number,
  holds: (alerts: readonly Firing[]) => boolean,
): Promise<void> {
  const deadline = performance.now() + millis;
  for (;;) {
    const alerts = await firing(url);
    if (holds(alerts)) return;
    if (performance.now() > deadline)
      throw new Error(`not within ${millis / 1000} s: ${what}; firing: ${JSON.stringify(alerts)}`);
    await sleep(200);
  }
}

/** Waits until an expression has a value. @throws Error where it does not come in time */
export async function untilValue(url: string, expression: string, millis = 60_000): Promise<void> {
  const deadline = performance.now() + millis;
  while ((await query(url, expression)).length === 0) {
    if (performance.now() > deadline) throw new Error(`not within ${millis / 1000} s: ${expression}`);
    await sleep(200);
  }
}
