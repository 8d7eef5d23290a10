import { statSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { Broadcaster } from "../shared/broadcast/broadcaster.ts";
import { validationOf } from "../shared/config/validation.ts";
import { openDataset } from "../shared/data/dataset.ts";
import { LockstepError } from "../shared/errors.ts";
import { parseFault, suitsWorker } from "../shared/faults/fault.ts";
import { servePages } from "../shared/metrics/pages.ts";
import { Plan } from "../shared/plan/plan.ts";
import { isLoopback, splitAddress } from "../shared/process/addresses.ts";
import { pagePlace } from "../shared/process/page-place.ts";
import type { CoordinatorMessage } from "../shared/protocol/messages.ts";
import type { Incarnation } from "../shared/protocol/view.ts";
import { reach } from "../shared/rpc/reach.ts";
import { Account } from "./account.ts";
import { Admission, otherMake } from "./admission.ts";
import { stateSha256 } from "./checkpoints/state-digest.ts";
import { CheckpointStore } from "./checkpoints/store.ts";
import { Chronicle } from "./chronicle.ts";
import { DataServer } from "./data-server.ts";
import { DialBack } from "./dial-back.ts";
import { DiskWatch } from "./disk-watch.ts";
import { withRoom } from "./files/durable.ts";
import { RunDirectory } from "./files/run-directory.ts";
import { recentEvents } from "./live/history.ts";
import { serveLive } from "./live/pages.ts";
import type { Outcome } from "./machine/state.ts";
import { bindingFor, securityFor } from "./network.ts";
import type { CoordinatorOptions } from "./options.ts";
import { foldHistory } from "./records/history.ts";
import type { RecordOf } from "./records/record.ts";
import { takeTerm } from "./records/term-files.ts";
import { Ruler, STATE_GONE } from "./ruler.ts";
import { AccessControl } from "./security/access-control.ts";
import { JoinLinks } from "./security/join-links.ts";
import { NatsKeys } from "./security/nats-keys.ts";
import { CoordinatorServer } from "./server.ts";
import { Sessions } from "./sessions.ts";
import { summarize } from "./summary.ts";
import { TargetsFile, targetGroups } from "./targets.ts";
import { RunTrace } from "./trace/run-trace.ts";
import { securedCalls, WORKER_CALLS } from "./worker-calls.ts";

/** How a process is asked to stop: in order. */
export interface StopRequests {
  onStop(stop: (reason: string) => void): void;
}

/** Time for released workers to close their streams, in milliseconds. */
const RELEASE_MILLIS = 2000;
const TRACE_MILLIS = 15_000;

/**
 * One reign: takes a term, rules the run, accounts for it, lets everybody go.
 * @param take the records; tests count what is written there
 * @throws LockstepError what keeps it from ruling (the run is not over then), or the reason why the run has failed
 */
export async function runCoordinator(
  options: CoordinatorOptions,
  requests: StopRequests,
  take: typeof takeTerm = takeTerm,
): Promise<Outcome> {
  const startedAt = Date.now();
  const binding = bindingFor(options, networkInterfaces());
  const directory = new RunDirectory(options.run);
  const config = directory.readConfig();
  const { recipe, place, runId } = config;
  const { log, terminal } = directory.openLog();
  const dataset = openDataset(place.dataDirectory, recipe.trainingPart);
  const plan = new Plan({ labels: dataset.train.labels, ...recipe });

  const account = new Account(config);
  const stalled = (full: boolean) => {
    account.metrics.stalled(full);
    account.note(full ? "The disk is full: the run waits for room for its records." : "The disk has room again.");
  };
  const store = await take(directory.at("records"), { onStall: stalled, patience: place.timing.maxWait });
  if (options.start) await store.append([{ kind: "start", time: startedAt }]);
  const validation = validationOf(config, dataset.test.count);
  const folded = foldHistory(store.records(), validation?.everySteps ?? null);

  const nats = place.nats === null ? null : NatsKeys.open(directory.path, place.nats);
  const broadcaster = place.nats === null ? null : new Broadcaster(place.nats, runId, undefined, nats?.access);
  const say = (sentence: string) => void (terminal && process.stderr.write(`${sentence}\n`));
  const chronicle = new Chronicle({ directory, config, term: store.term, plan, account, broadcaster, log, say });
  const checkpoints = new CheckpointStore({
    directory: directory.at("checkpoints"),
    run: runId,
    keep: place.checkpoint.keep,
    term: store.term,
    recorded: folded.checkpoints,
    validated: validation?.patience == null ? null : (folded.best?.step ?? null),
    checkRuling: () => store.checkRuling(),
    warn: (line) => chronicle.note(line),
  });
  const usable = await checkpoints.newestUsable();
  if (config.parent !== undefined && usable === null) throw new LockstepError(...STATE_GONE);
  const history = { ...folded, checkpoint: usable?.tip ?? null };
  await chronicle.reconcile(() => store.records());
  for (const line of chronicle.validations) account.onValidation(line);
  account.remember(store.records(), recentEvents(directory.at("events.ndjson")));
  const stored =
    usable === null ? null : { step: usable.tip.step, time: statSync(checkpoints.path(usable.file)).mtimeMs };
  account.metrics.rules(store.term, history.ledgerTip?.step ?? 0, stored);

  const onRefused = (code: string) => account.metrics.refused(code);
  const security = await securityFor(options, binding.advertise, runId, log, {
    onRefused,
    onRevoked: () => {
      if (nats !== null) broadcaster?.renew(nats.access);
      access?.tellAll();
    },
  });
  const calls = security === null ? WORKER_CALLS : securedCalls(security.trust);
  const ruler = new Ruler({
    config,
    store,
    history,
    checkpoints,
    chronicle,
    calls,
    testImages: dataset.test.count,
    resumed: options.start,
  });
  const trace = place.trace === undefined ? null : new RunTrace(place.trace, directory, runId);
  const sessions = new Sessions(recipe.shards, {
    onHello: (hello) => {
      trace?.knows(hello);
      const other = otherMake(hello);
      if (other !== null) {
        account.note(`worker ${hello.name} is refused: ${other.message}`);
        onRefused(other.code);
        return sessions.reject(hello.incarnation, other.code, other.message);
      }
      ruler.hello(admission?.hello(hello) ?? hello);
      access?.tell(hello.incarnation);
    },
    onMessage: (from, message) => {
      if (message.kind === "ready" && admission !== null) admission.ready(from, message);
      else if (message.kind === "dialled") {
        admission?.dialled(from, message);
        dialBack.dialled(from, message);
      } else ruler.message(from, message);
    },
    onEnd: (incarnation) => {
      admission?.ended(incarnation);
      ruler.feed({ kind: "disconnected", incarnation });
    },
    onRefused: (who, reason, code) => {
      log.warn({ who, reason }, "a session was refused");
      onRefused(code);
    },
  });
  const status = () => account.status(ruler, (incarnation) => admission?.reasonOf(incarnation) ?? null);
  const dial = (address: string, incarnation: string) => reach(address, incarnation, security?.trust ?? null);
  const send = (to: Incarnation, message: CoordinatorMessage) => sessions.send(to, message);
  // On this machine everybody reaches everybody.
  const admission = isLoopback(binding.advertise)
    ? null
    : new Admission({
        send,
        dial,
        members: () => new Set(ruler.state.installed?.members.map(({ incarnation }) => incarnation)),
        admit: (from, ready) => ruler.message(from, ready),
        note: (text) => account.note(text),
      });
  const workers = () => [...ruler.state.workers.values()].filter((worker) => !worker.evicted);
  const dialBack = new DialBack({ dial, workers, send, nats: place.nats });
  const server = new CoordinatorServer(
    {
      run: runId,
      sessions,
      checkpoints,
      status,
      trace: trace?.parts ?? null,
      data: new DataServer(dataset, recipe.data.sha256),
      dialBack,
      stop: (reason) => ruler.stop(reason),
      inject: (target, fault) => inject(ruler, sessions, target, fault),
      access: (request) => access?.control(request) ?? null,
      predictions: (batch, bytes) => directory.writePredictions(batch, bytes),
      onRefused,
    },
    security,
  );
  const address = await server.start(binding);
  const links = security === null ? null : new JoinLinks(security, splitAddress(address)!);
  const access =
    security === null || links === null ? null : new AccessControl({ security, links, nats }, sessions, workers);
  const disk = new DiskWatch(directory.path);
  const guard = security === null ? null : { trust: security.trust, token: () => security.httpToken };
  const pagesAt = pagePlace(options.http, { ...binding, insecure: options.insecure }, guard);
  const pages = await servePages(account.metrics.metrics, pagesAt.host, pagesAt.ports, {
    ...pagesAt,
    collect: () => account.collect(ruler, broadcaster, disk),
    health: () => ({ ok: true, detail: { phase: ruler.state.phase, step: ruler.recordedStep, term: store.term } }),
    more: (server) => {
      server.get("/targets", (_request, reply) => reply.send(targets()));
      serveLive(server, { status, history: account.history });
    },
  });
  const targets = () => targetGroups(runId, pages.address, account.rows(ruler), binding.advertise, security !== null);
  let joinLine: string | null = null;
  const targetsFile = new TargetsFile(directory.at("targets.json"), targets);

  try {
    requests.onStop((reason) => ruler.stop(reason));
    const ending = history.ended === null ? ruler.rule(sessions) : ruler.conclude(sessions, outcomeOf(history.ended));
    const endpoints = {
      coordinator: address,
      http: pages.address,
      nats: place.nats,
      tls: security !== null,
      pid: process.pid,
      term: store.term,
    };
    await withRoom(place.timing.maxWait, () => {
      // One that was frozen while somebody took over must not draw the workers to itself.
      store.checkRuling();
      joinLine = links?.announce(options.start, process.stderr.isTTY) ?? null;
      directory.writeJson("endpoints.json", endpoints);
    });
    const page = `${pagesAt.guard === null ? "http" : "https"}://${pages.address}/`;
    account.note(`live page: ${page}`);
    log.info({ address, http: pages.address, term: store.term }, "the coordinator rules");
    say(`Coordinator of run ${runId}, term ${store.term}, at ${address}; live page at ${page}`);
    if (joinLine !== null) say(`On another machine: ${joinLine}`);

    const outcome = await ending;
    log.info(outcome, "the run ends");
    chronicle.event({ type: "phase", phase: "finished", detail: sentenceOf(outcome) });
    await chronicle.reconcile(() => store.records());
    const told = { ...(await summary(outcome)), ...failureOf(outcome) };
    await withRoom(place.timing.maxWait, () => {
      store.checkRuling();
      directory.writeJson("summary.json", told);
    });
    // Those that trace hand over what they have before they leave.
    await released(sessions, trace === null ? RELEASE_MILLIS : TRACE_MILLIS);
    trace?.write((line) => chronicle.note(line));
    return outcome;
  } finally {
    server.close();
    disk.close();
    targetsFile.close();
    await Promise.all([pages.server.close(), chronicle.close(), store.close()]);
    dataset.close();
  }

  async function summary(outcome: Outcome) {
    const { newest } = checkpoints;
    return summarize({
      config,
      plan,
      records: store.records(),
      outcome: outcome.kind,
      facts: ruler.facts,
      stateSha256: newest === null ? null : await stateSha256(checkpoints.path(newest.file), newest.tip.step),
      startedAt,
      endedAt: Date.now(),
      testImages: dataset.test.count,
    });
  }
}

const sentenceOf = (outcome: Outcome): string =>
  outcome.kind === "done" ? "done" : outcome.kind === "stopped" ? outcome.reason : outcome.message;

const failureOf = (outcome: Outcome) =>
  outcome.kind === "failed" ? { code: outcome.code, message: outcome.message } : {};

/** How a reign before this one found the run to end. */
const outcomeOf = ({ outcome, message, code }: RecordOf<"end">): Outcome => {
  if (outcome === "failed") return { kind: "failed", code: (code ?? "LS_FAILED") as `LS_${string}`, message };
  return outcome === "done" ? { kind: "done" } : { kind: "stopped", reason: message };
};

/** The workers hear that they are released before the streams close. */
async function released(sessions: Sessions, patience: number): Promise<void> {
  const until = performance.now() + patience;
  while (sessions.incarnations.length > 0 && performance.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/**
 * @param target name or incarnation of a worker; empty: this coordinator
 * @throws LockstepError LS_USAGE, LS_NO_WORKER
 */
function inject(ruler: Ruler, sessions: Sessions, target: string, text: string): string {
  const fault = parseFault(text);
  if (target === "") {
    if (fault !== null && ruler.faults.inject(fault)) return `${text} is to happen to the coordinator`;
    throw new LockstepError("LS_USAGE", `A coordinator cannot have "${text}".`);
  }
  if (fault === null || !suitsWorker(fault)) throw new LockstepError("LS_USAGE", `A worker cannot have "${text}".`);
  const live = [...ruler.state.workers.values()].filter((worker) => !worker.evicted);
  const worker = live.findLast(({ name, incarnation }) => name === target || incarnation === target);
  if (worker === undefined) {
    throw new LockstepError("LS_NO_WORKER", `There is no worker "${target}" in this run.`, {
      hint: "See `npx lockstep status`.",
    });
  }
  sessions.send(worker.incarnation, { kind: "inject", fault: text });
  return `${text} was sent to ${worker.name}`;
}
