import type { Config } from "../shared/config/schema.ts";
import { LockstepError, sentenceOf } from "../shared/errors.ts";
import { parseFault } from "../shared/faults/fault.ts";
import { cacheDirectory } from "../shared/process/cache.ts";
import { openLog, openTerminalLog } from "../shared/process/log.ts";
import { pagePlace } from "../shared/process/page-place.ts";
import { exitWithParent } from "../shared/process/parent-watch.ts";
import {
  type CoordinatorMessage,
  type NatsAccess,
  type Progress,
  RUN_FAILED,
  type WorkerMessage,
} from "../shared/protocol/messages.ts";
import type { LedgerEntry } from "../shared/protocol/trailer.ts";
import { viewName } from "../shared/protocol/view.ts";
import { reach } from "../shared/rpc/reach.ts";
import { make } from "../shared/version.ts";
import { Compute, type ComputeReady } from "./compute/compute.ts";
import { initialDelay } from "./compute/shard-delay.ts";
import { fetchCheckpoint, pushPredictions, renewCertificate } from "./coordinator-calls.ts";
import { dataFor } from "./data/fetched-data.ts";
import { MemberServer } from "./exchange/member-server.ts";
import { EarlyFaults } from "./faults/early-faults.ts";
import { parseWorkerOptions } from "./options.ts";
import { WorkerPages } from "./pages.ts";
import { enter, WorkerSecurity } from "./security/entrance.ts";
import { newIdentity } from "./security/obtain.ts";
import { keepRenewed } from "./security/renewing.ts";
import { Session } from "./session.ts";
import { TraceHandOver } from "./trace/hand-over.ts";
import { LockstepWorker } from "./worker.ts";

/** The worker process: listen, dial, load, get ready, work, leave. */
const identity = newIdentity();
const { incarnation: self } = identity;
const log = process.stderr.isTTY
  ? openTerminalLog((line) => process.stderr.write(line))
  : openLog(2, { part: "worker", incarnation: self });

async function run(): Promise<void> {
  const options = parseWorkerOptions(process.argv.slice(2));
  let saidWhy = "";
  const { coordinator, trust, rejoin, binding } = await enter(options, identity, (why) => {
    log.info({ why }, "waits to join");
    // Whoever typed a link looks at this terminal; a worker beside its coordinator waits for it as a rule.
    if (options.join.startsWith("lockstep://") && why !== saidWhy)
      process.stderr.write(`${why} It is tried again by itself.\n`);
    saidWhy = why;
  });
  const pages = new WorkerPages();
  const onRefused = (code: string) => pages.refused(code);
  const security =
    trust === null
      ? null
      : new WorkerSecurity(trust, (refusal) => log.warn(refusal, "refused a connection"), onRefused);
  let nats: NatsAccess | null = null;
  let httpToken: string | null = null;
  const server = new MemberServer(onRefused);
  const address = await server.start(binding, security);
  const guard = trust === null ? null : { trust, token: () => httpToken };
  const httpAddress = await pages.start(pagePlace(options.http, { ...binding, insecure: options.insecure }, guard));

  let worker: LockstepWorker | null = null;
  let loading = false;
  let loaded: ComputeReady | null = null;
  let ended = false;
  let said = "";
  let trace: TraceHandOver | null = null;
  const early = new EarlyFaults();

  const end = async (code: number, reason: string) => {
    if (ended) return;
    ended = true;
    log.info({ reason, code }, "the worker ends");
    const lost = await trace?.finish();
    if (typeof lost === "string") log.warn({ why: lost }, "the trace was not handed over");
    worker?.close();
    session.close();
    server.close();
    await Promise.race([pages.close(), new Promise((resolve) => setTimeout(resolve, 500))]);
    process.exit(code);
  };

  /** Whoever keeps the coordinator of a run that has failed starts it again; whoever keeps this worker is to do the same. */
  const released = (reason: string) => {
    // Beside its coordinator `up` looks after both.
    const again = reason === RUN_FAILED && !options.join.endsWith(".json");
    if (again) process.stderr.write("The run has failed; its coordinator says why. [LS_RUN_FAILED]\n");
    return end(again ? 1 : 0, reason);
  };

  const hello = (): WorkerMessage => ({
    kind: "hello",
    incarnation: self,
    name: options.name,
    host: options.host,
    pid: process.pid,
    version: make(),
    address,
    httpAddress,
    labels: loaded?.labels ?? {},
    promised: worker?.member.promised ?? null,
    standing: worker?.standing() ?? null,
  });

  const session = new Session({
    coordinator,
    trust,
    redialFirst: 100,
    redialMax: 1000,
    silence: 5000,
    hello,
    onMessage: (message) => void onMessage(message).catch((error: unknown) => end(1, sentenceOf(error))),
    onMalformed: (error, often) => {
      log.error({ often }, sentenceOf(error));
      if (!often) return;
      process.stderr.write(`${sentenceOf(error)}\n`);
      void end(3, sentenceOf(error));
    },
    onState: (connected) => log.info({ connected }, connected ? "dialled the coordinator" : "the coordinator is away"),
  });

  async function onMessage(message: CoordinatorMessage): Promise<void> {
    if (message.kind === "rejected") {
      process.stderr.write(
        `${message.message}${message.code === "LS_FINGERPRINT" ? madeBy(loaded) : ""} [${message.code}]\n`,
      );
      return end(3, message.message);
    }
    if (message.kind === "access") {
      ({ nats, httpToken } = message);
      pages.access(nats);
      return security?.revoke(message.revoked);
    }
    if (message.kind === "dial") {
      const failure = (await reach(message.address, message.incarnation, trust)) ?? "";
      return session.send({ kind: "dialled", incarnation: message.incarnation, failure });
    }
    if (message.kind === "inject") return inject(message.fault);
    if (message.kind === "release" && worker === null) return released(message.reason);
    if (message.kind === "welcome" && worker === null && !loading) {
      loading = true;
      await load(message.config);
    } else if (message.kind === "welcome") sayReady();
    worker?.receive(message);
  }

  async function load(received: Config): Promise<void> {
    // From here on: loading takes seconds on a busy machine, and silence evicts.
    setInterval(
      () => session.send({ kind: "heartbeat", progress: worker?.progress() ?? LOADING }),
      received.place.timing.heartbeatInterval,
    );
    const refuse = (error: unknown): Promise<never> => {
      const known = error instanceof LockstepError ? error : new LockstepError("LS_COMPUTE", sentenceOf(error));
      session.send({ kind: "failed", code: known.code, message: known.message });
      process.stderr.write(`${known.toLine()}\n`);
      return end(known.exitCode, known.message).then(() => Promise.reject(known));
    };
    const { directory, fetched } = await dataFor({
      named: options.data,
      usual: received.place.dataDirectory,
      trusted: trust === null && !options.insecure,
      run: received.runId,
      recipe: received.recipe,
      cache: cacheDirectory(),
      channel: () => session.channel,
    }).catch(refuse);
    const config: Config = { ...received, place: { ...received.place, dataDirectory: directory } };
    const { compute, ready } = await Compute.start(config).catch(refuse);
    loaded = ready;
    log.info(ready.startMillis, "loaded");
    worker = new LockstepWorker({
      config,
      self,
      compute,
      ready,
      server,
      trust,
      data: fetched,
      hooks: {
        send: (message) => session.send(message),
        fetchCheckpoint: (tip, bytes) => fetchCheckpoint(() => session.channel, config.runId, tip, bytes),
        deliverPredictions: (batch, result) => pushPredictions(() => session.channel, config.runId, batch, result),
        onFinal: (entry) => {
          pages.onFinal(entry, self);
          sayShards(entry);
        },
        onExit: (reason, crashed) => {
          if (!crashed) return void released(reason);
          process.stderr.write(`${reason}\n`);
          void end(1, reason);
        },
        log: (event, detail) => log.info(detail, event),
      },
    });
    if (worker.trace !== null) {
      const who = { run: config.runId, incarnation: self, name: options.name, host: options.host };
      trace = new TraceHandOver(worker.trace, who, () => session.channel);
    }
    const delay = initialDelay(options.name);
    worker.control.counters.set("shardDelay", delay.millis);
    worker.control.counters.set("shardSlowness", delay.factor - 1);
    early.handTo(worker.faults);
    pages.attach(worker, config, options.name, nats);
    sayReady();
  }

  /** Whoever started it wants to know that it works, and on what. */
  function sayShards({ step, view, shards }: LedgerEntry): void {
    const own = shards.filter(({ by }) => by === self).map(({ shard }) => shard);
    const text = own.length === 0 ? "has no shards" : `computes shards ${own[0]} to ${own.at(-1)} of ${shards.length}`;
    if (text === said) return;
    said = text;
    log.info({ view: viewName(view), step }, text);
  }

  /** On every stream: a coordinator that takes over may not know it, and one that was away has not heard it. */
  function sayReady(): void {
    if (worker === null || loaded === null) return;
    const { fingerprint, root, facts } = loaded;
    session.send({ kind: "ready", fingerprint, root: root.lineage, standing: worker.standing(), facts });
  }

  function inject(text: string): void {
    const fault = parseFault(text);
    if (fault === null) return log.warn({ fault: text }, "an injected fault is not known");
    (worker?.faults ?? early).inject(fault);
  }

  if (trust !== null && rejoin !== null)
    keepRenewed({
      trust,
      incarnation: self,
      ask: (request) => renewCertificate(() => session.channel, request),
      rejoin,
      log: (what, detail) => log.info(detail, what),
    });

  process.on("SIGTERM", () => {
    if (worker === null) void end(0, "asked to leave");
    else worker.leave("asked to leave (SIGTERM)");
  });
  process.on("SIGINT", () => {}); // A terminal sends it to the whole group; the coordinator decides.
  exitWithParent(() => void end(0, "the parent process is gone"));
}

/** What a worker that is still loading says of itself. */
const LOADING: Progress = {
  view: null,
  step: 0,
  phase: "loading",
  stepMillis: 0,
  level: false,
  shardMillis: 0,
  images: 0,
  residentBytes: 0,
  peers: [],
};

run().catch((error: unknown) => {
  process.stderr.write(`${sentenceOf(error)}\n`);
  process.exit(error instanceof LockstepError ? error.exitCode : 1);
});

/** What explains this worker's fingerprint. */
function madeBy(loaded: ComputeReady | null): string {
  if (loaded === null) return "";
  const { tensorflow, device, cpu, instructionSet, threads, precision, execution } = loaded.labels;
  const where = device === "gpu" ? "a GPU" : `${cpu} (${instructionSet}, threads: ${threads})`;
  const how = `with TensorFlow ${tensorflow} on ${where}, ${precision}, ${execution}`;
  return ` This worker computes ${how}; the run's workers differ in one of these.`;
}
