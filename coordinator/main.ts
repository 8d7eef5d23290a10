import { createHash } from "node:crypto";
import { createReadStream, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { pino } from "pino";
import { Broadcaster } from "../shared/broadcast/broadcaster.ts";
import type { Config } from "../shared/config/schema.ts";
import { openDataset } from "../shared/data/dataset.ts";
import { LockstepError, sentenceOf } from "../shared/errors.ts";
import { servePages } from "../shared/metrics/pages.ts";
import { Plan } from "../shared/plan/plan.ts";
import { requireLoopback } from "../shared/process/loopback.ts";
import { exitWithParent } from "../shared/process/parent-watch.ts";
import type { LedgerEntry } from "../shared/protocol/trailer.ts";
import { viewName } from "../shared/protocol/view.ts";
import { Account } from "./account.ts";
import { CheckpointStore } from "./checkpoints/store.ts";
import type { Outcome, RunEvent } from "./machine/state.ts";
import { parseCoordinatorOptions } from "./options.ts";
import { foldHistory } from "./records/history.ts";
import { takeTerm } from "./records/term-files.ts";
import { Ruler } from "./ruler.ts";
import { RunDirectory } from "./run-directory.ts";
import { CoordinatorServer } from "./server.ts";
import { Sessions } from "./sessions.ts";
import { summarize } from "./summary.ts";

/** The coordinator process: take a term, rule the run, account for it, let everybody go. */
async function run(): Promise<void> {
  const options = parseCoordinatorOptions(process.argv.slice(2));
  requireLoopback(options.listen, options.insecure);
  const directory = new RunDirectory(options.run);
  const config = directory.readConfig();
  const log = pino({ base: { part: "coordinator" } }, pino.destination({ fd: 2, sync: true }));
  const dataset = openDataset(config.place.dataDirectory);
  const startedAt = Date.now();

  const store = await takeTerm(directory.at("records"));
  if (options.start) await store.append([{ kind: "start", time: startedAt }]);
  const folded = foldHistory(store.records());
  const checkpoints = new CheckpointStore(directory.at("checkpoints"), config.place.checkpoint.keep, folded.checkpoints);
  const usable = await checkpoints.verifyNewest((line) => log.warn(line));
  const history = { ...folded, checkpoint: usable?.tip ?? null };

  const broadcaster = config.place.nats === null ? null : new Broadcaster(config.place.nats, config.runId);
  const account = new Account(config, store.term);
  const say = (event: RunEvent) => {
    log.info(event, event.type);
    const line = { time: new Date().toISOString(), term: store.term, ...event };
    directory.line("events.ndjson", line);
    broadcaster?.publishEvent({ run: config.runId, ...line });
    account.onEvent(event);
  };
  const ruler: Ruler = new Ruler({
    config,
    directory,
    store,
    history,
    checkpoints,
    broadcaster,
    testImages: dataset.test.count,
    log: (event) => (event.type === "note" ? log.info(event.text) : say(event)),
    onFinal(entry) {
      directory.line("steps.ndjson", stepLine(entry, config));
      // Members broadcast their steps as well; the last ones of a run are final only here.
      broadcaster?.publishStep(entry, "coordinator", config);
      account.onFinal(entry);
    },
    onFinish: (outcome) => void finish(outcome),
  });
  completeSteps(directory, store.records(), config);

  const sessions = new Sessions({
    onHello: (hello) => ruler.hello(hello),
    onMessage: (from, message) => ruler.message(from, message),
    onEnd: (incarnation) => ruler.feed({ kind: "disconnected", incarnation }),
    onRefused: (reason) => log.warn({ reason }, "a session was refused"),
  });
  mkdirSync(directory.at("report", "predictions"), { recursive: true });
  const server = new CoordinatorServer({
    run: config.runId,
    sessions,
    checkpoints,
    status: () => account.status(ruler),
    stop: (reason) => ruler.feed({ kind: "stop", reason }),
    inject: (target, fault) => inject(ruler, sessions, target, fault),
    predictions: (batch, bytes) => writeFileSync(directory.at("report", "predictions", `batch-${batch}.bin`), bytes),
  });
  const address = await server.start(options.listen, options.port);
  const pages = await servePages(account.metrics, options.listen, 0, {
    collect: () => account.collect(ruler, broadcaster),
    health: () => ({ ok: true, detail: { phase: ruler.state.phase, step: ruler.recordedStep } }),
  });
  ruler.start(sessions);
  directory.json("endpoints.json", { coordinator: address, http: pages.address, nats: config.place.nats, pid: process.pid, term: store.term });
  log.info({ address, http: pages.address, term: store.term }, "the coordinator rules");

  let interrupts = 0;
  const interrupt = (signal: string) => {
    interrupts += 1;
    if (interrupts > 1) process.exit(130);
    ruler.feed({ kind: "stop", reason: signal });
  };
  process.on("SIGINT", () => interrupt("interrupted"));
  process.on("SIGTERM", () => interrupt("terminated"));
  exitWithParent(() => process.exit(130));

  async function finish(outcome: Outcome): Promise<void> {
    log.info(outcome, "the run ends");
    if (outcome.kind === "failed" && outcome.code === "LS_SUPERSEDED") return exit(1);
    say({ type: "phase", phase: "finished", detail: outcome.kind === "done" ? "done" : outcome.kind === "stopped" ? outcome.reason : outcome.message });
    const newest = checkpoints.newest;
    const { seed, shards, stepsPerEpoch } = config.recipe;
    const summary = summarize({
      config,
      plan: new Plan({ labels: dataset.train.labels, seed, shards, stepsPerEpoch }),
      records: store.records(),
      outcome: outcome.kind,
      facts: ruler.facts,
      failures: account.failures,
      stateSha256: newest === null ? null : await stateSha256(directory.at("checkpoints", newest.file), newest.tip.step),
      startedAt,
      endedAt: Date.now(),
      testImages: dataset.test.count,
    });
    directory.json("summary.json", { ...summary, ...(outcome.kind === "failed" ? { code: outcome.code, message: outcome.message } : {}) });
    // The workers hear that they are released before the streams close.
    for (let i = 0; i < 40 && sessions.incarnations.length > 0; i++) await new Promise((resolve) => setTimeout(resolve, 50));
    await exit(outcome.kind === "failed" ? 1 : 0);
  }

  async function exit(code: number): Promise<void> {
    server.close();
    await Promise.race([Promise.all([pages.server.close(), broadcaster?.close(), store.close()]), new Promise((resolve) => setTimeout(resolve, 500))]);
    process.exit(code);
  }
}

function stepLine(entry: LedgerEntry, config: Config) {
  const samples = entry.shards.reduce((sum, shard) => sum + shard.samples, 0);
  const correct = entry.shards.reduce((sum, shard) => sum + shard.correct, 0);
  return {
    time: new Date().toISOString(),
    step: entry.step,
    epoch: Math.floor(entry.step / config.recipe.stepsPerEpoch),
    view: viewName(entry.view),
    loss: entry.loss,
    accuracy: samples === 0 ? 0 : correct / samples,
    images: samples,
    learningRate: config.recipe.learningRates[entry.step],
    gradientNorm: entry.gradientNorm,
    applied: entry.applied,
    lineage: entry.lineage,
    stateHash: entry.stateHash,
    shards: entry.shards,
  };
}

/** A crash may fall between a record and its line in steps.ndjson: the file is made again where lines are missing. */
function completeSteps(directory: RunDirectory, records: Iterable<{ readonly kind: string }>, config: Config): void {
  const entries: LedgerEntry[] = [];
  for (const record of records) {
    if (record.kind !== "final") continue;
    const { entry } = record as unknown as { entry: LedgerEntry };
    entries.length = entry.step;
    entries.push(entry);
  }
  const file = directory.at("steps.ndjson");
  const lines = existsSync(file) ? readFileSync(file, "utf8").split("\n").length - 1 : 0;
  if (lines === entries.length) return;
  writeFileSync(file, entries.map((entry) => `${JSON.stringify(stepLine(entry, config))}\n`).join(""));
}

function inject(ruler: Ruler, sessions: Sessions, target: string, fault: string): string {
  const worker = [...ruler.state.workers.values()].find((w) => !w.evicted && (w.name === target || w.incarnation === target));
  if (worker === undefined) throw new LockstepError("LS_NO_WORKER", `There is no worker "${target}" in this run.`, { hint: "See `npx lockstep status`." });
  sessions.send(worker.incarnation, { kind: "inject", fault });
  return `${fault} was sent to ${worker.name}`;
}

/** SHA-256 over the state image (weights, statistics, slots, EMA) and the plan position as u64. */
async function stateSha256(file: string, step: number): Promise<string> {
  const hash = createHash("sha256");
  let skip: number | null = null;
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) {
    let bytes = chunk as Buffer;
    skip ??= 8 + Number(bytes.readBigUInt64LE(0));
    const dropped = Math.min(skip, bytes.length);
    bytes = bytes.subarray(dropped);
    skip -= dropped;
    hash.update(bytes);
  }
  const position = Buffer.alloc(8);
  position.writeBigUInt64LE(BigInt(step));
  return hash.update(position).digest("hex");
}

run().catch((error: unknown) => {
  process.stderr.write(`${sentenceOf(error)}\n`);
  process.exit(error instanceof LockstepError ? error.exitCode : 1);
});
