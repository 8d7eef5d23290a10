import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Keeper } from "./keeper.ts";
import type { GroupWatch } from "./reaper.ts";
import { NATS_POLICY } from "./restart-policy.ts";

const START_MILLIS = 15_000;
/** Between two scrapes and two evaluations, as in the shipped prometheus.yml: the rules' shortest window is 15 s. */
const SCRAPE_SECONDS = 5;

/** Our rules, in the source tree and in the built one alike. */
const rulesFile = fileURLToPath(new URL("../prometheus/rules.yml", import.meta.url));

export interface PrometheusServer {
  readonly url: string;
  readonly keeper: Keeper;
}

/**
 * The configuration of a Prometheus that belongs to one run.
 * @param directory the run's
 * @param seconds between two scrapes
 */
export function prometheusConfig(directory: string, rules: string, seconds: number): string {
  const path = (name: string) => JSON.stringify(name);
  return `global:
  scrape_interval: ${seconds}s
  evaluation_interval: ${seconds}s
rule_files: [${path(rules)}]
scrape_configs:
  - job_name: lockstep
    honor_labels: true
    file_sd_configs:
      - files: [${path(join(directory, "targets.json"))}]
        refresh_interval: ${seconds}s
`;
}

/** What people without Prometheus, or with one of their own, need to know. */
export const monitoringHint = (directory: string): string =>
  `Prometheus is not installed here, so nothing is collected: install it (Debian: apt install prometheus) and resume, or ` +
  `have one of your own scrape what ${join(directory, "targets.json")} lists; deploy/prometheus/README.md says how.`;

export interface PrometheusOptions {
  readonly program: string;
  /** The run's directory: configuration and data go to monitoring/, its output to logs/. */
  readonly directory: string;
  readonly seconds?: number;
  /** Another rules file than ours, for tests. */
  readonly rules?: string;
  /** One sentence for people. */
  note(text: string): void;
}

/**
 * Starts Prometheus for a run, on loopback. What it needs is in the run's directory, so that a resumed run goes on in the
 * same history. Training does not depend on it: where it does not come up, a sentence says so and the answer is null.
 */
export async function startPrometheus(
  { program, directory, seconds = SCRAPE_SECONDS, rules = rulesFile, note }: PrometheusOptions,
  groups: GroupWatch,
): Promise<PrometheusServer | null> {
  const folder = join(directory, "monitoring");
  mkdirSync(folder, { recursive: true });
  const config = join(folder, "prometheus.yml");
  writeFileSync(config, prometheusConfig(directory, rules, seconds));
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const logFile = join(directory, "logs", "prometheus.log");
  const command = () => [
    program,
    `--config.file=${config}`,
    `--storage.tsdb.path=${join(folder, "data")}`,
    `--web.listen-address=127.0.0.1:${port}`,
    "--log.level=warn",
  ];
  let ready = false;
  let ended = false;
  const keeper = new Keeper({ name: "prometheus", command, env: {}, logFile, background: true }, NATS_POLICY, groups, {
    note: (text) => ready && note(text),
    over: () => {
      ended = true;
    },
  });
  keeper.start();
  const deadline = performance.now() + START_MILLIS;
  while (!ended && performance.now() < deadline) {
    const answer = await fetch(`${url}/-/ready`).catch(() => null);
    if (answer?.ok === true) {
      ready = true;
      return { url, keeper };
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await keeper.stop(1000);
  note(`Prometheus does not come up; the run goes on without it. Its log: ${logFile}`);
  return null;
}

/** Prometheus cannot say which port it took, and must keep it over restarts. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
