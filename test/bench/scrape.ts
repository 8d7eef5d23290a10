import { RunMetrics } from "../../coordinator/run-metrics.ts";
import type { Config } from "../../shared/config/schema.ts";
import { servePages } from "../../shared/metrics/pages.ts";
import { ANY_PORT } from "../../shared/process/addresses.ts";
import { madeStatus } from "../monitoring/made-status.ts";

/** What a scrape of the coordinator takes with this many workers: `node dist/test/bench/scrape.js [workers]`. */
const workers = Number(process.argv[2] ?? 256);
const SCRAPES = 300;
const config = {
  runId: "bench",
  recipe: { steps: 1000, stepsPerEpoch: 50, learningRates: [], recipe: "quick", model: { name: "alexnet" } },
  place: { workers, minWorkers: 1, checkpoint: { everySteps: 50 } },
} as unknown as Config;
const run = new RunMetrics(config);
const { workers: rows } = madeStatus(workers, 10);
for (const { name, incarnation } of rows) {
  run.event({ type: "worker", change: "connected", worker: incarnation as never, name, why: "" });
}
const state = { phase: "running", change: null, settings: { evaluationBatches: 80 } } as never;
const scraped = { ruler: { state }, workers: rows, broadcaster: null, disk: { room: null } };
const { server, address } = await servePages(run.metrics, "127.0.0.1", ANY_PORT, {
  collect: () => run.scrape(scraped),
  health: () => ({ ok: true, detail: {} }),
});
const times: number[] = [];
let bytes = 0;
for (let n = 0; n < SCRAPES; n++) {
  const started = performance.now();
  bytes = (await (await fetch(`http://${address}/metrics`)).text()).length;
  times.push(performance.now() - started);
}
await server.close();
times.sort((a, b) => a - b);
const at = (share: number) => times[Math.min(SCRAPES - 1, Math.floor(share * SCRAPES))]!.toFixed(1);
process.stdout.write(
  `scrape of a coordinator with ${workers} workers, ${SCRAPES} times: median ${at(0.5)} ms, p99 ${at(0.99)} ms, most ${at(1)} ms; ${(bytes / 1024).toFixed(0)} KiB\n`,
);
process.exit(0);
