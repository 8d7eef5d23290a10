import type { Status, WorkerRow } from "../../coordinator/account.ts";
import { RunHistory } from "../../coordinator/live/history.ts";
import type { LedgerEntry } from "../../shared/protocol/trailer.ts";

/** A made-up row; every seventh worker is slow, one is away, one loads. */
const row = (index: number, workers: number, seconds: number): WorkerRow => ({
  name: `worker-${index}`,
  incarnation: index.toString(16).padStart(16, "0"),
  host: `host-${index >> 3}`,
  pid: 1000 + index,
  address: `127.0.0.1:${20_000 + index}`,
  httpAddress: `127.0.0.1:${30_000 + index}`,
  state: workers > 2 && index === 17 ? "away" : workers > 2 && index === 18 ? "loading" : "computing",
  why: "",
  shards: `${index}-${index}`,
  phase: "compute",
  step: 1234,
  shardMillis: workers > 2 && index % 7 === 3 ? 250 : 120 + (index % 5),
  images: 8000 + Math.round(seconds * (index % 7 === 3 ? 20 : 40)),
  residentBytes: 612e6 + index * 1e5,
});

/** A status of a run in its middle, `seconds` after the page was opened. */
export const madeStatus = (workers: number, seconds: number): Status => ({
  run: "20260101-120000-a1b2c3",
  term: 2,
  phase: "running",
  view: "2.7",
  step: 1234,
  steps: 3000,
  stepsPerEpoch: 50,
  loss: 1.2345,
  accuracy: 0.5678,
  imagesPerSecond: 40 * workers,
  secondsPerStep: 0.8,
  evaluation: null,
  validation: null,
  checkpoint: 1200,
  waiting: null,
  workers: Array.from({ length: workers }, (_, index) => row(index, workers, seconds)),
  messages: [],
});

const START = Date.UTC(2026, 0, 1, 12);

/** A run of 3,000 steps with a bend in its loss, a step that was not finite, and things that happened. */
export function madeHistory(): RunHistory {
  const history = new RunHistory();
  for (let step = 0; step < 3000; step++) {
    const loss = step === 40 ? Number.NaN : 2.3 * Math.exp(-step / 700) + 0.3 + 0.05 * Math.sin(step);
    const shards = [{ samples: 64, correct: Math.min(60, step >> 5) }] as unknown as LedgerEntry["shards"];
    history.final({ step, loss, shards }, START + step * 800 + (step > 2000 ? 60_000 : 0));
  }
  history.happened(START, "other", "running: view 1.1, 2 members");
  for (let n = 1; n < 30; n++)
    history.happened(START + n * 80_000, "checkpoint", `checkpoint of step ${n * 100} stored`);
  history.happened(START + 1_600_000, "trouble", "worker worker-1 lost: silent for 1.5 s");
  history.happened(
    START + 1_600_400,
    "trouble",
    "view 2.6 from step 2000 (worker-1 lost: silent for 1.5 s): worker-0 0-8",
  );
  history.happened(
    START + 1_660_000,
    "view",
    "view 2.7 from step 2001 (join: worker-1): worker-0 0-8, worker-1 joining",
  );
  return history;
}
