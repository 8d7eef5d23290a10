import type { Config } from "../shared/config/schema.ts";
import { validationSettings } from "../shared/config/validation.ts";
import { sentenceOf } from "../shared/errors.ts";
import type { CoordinatorMessage, Progress, StepPhase } from "../shared/protocol/messages.ts";
import type { LedgerEntry } from "../shared/protocol/trailer.ts";
import { type Incarnation, sameView, type Tip, type View, type ViewId, viewName } from "../shared/protocol/view.ts";
import type { Trust } from "../shared/security/trust.ts";
import { mostSpans } from "../shared/trace/part.ts";
import { loadArithmeticSync } from "./arithmetic/arithmetic.ts";
import type { Compute, ComputeReady } from "./compute/compute.ts";
import type { ComputeReply, ComputeRequest, EvaluatedBatch } from "./compute/messages.ts";
import { ReturnWatch, returnPatience } from "./compute/return-watch.ts";
import type { FetchedData } from "./data/fetched-data.ts";
import { Exchange } from "./exchange/exchange.ts";
import type { MemberServer } from "./exchange/member-server.ts";
import { WorkerFaults } from "./faults/worker-faults.ts";
import { HeldState } from "./held-state.ts";
import { LiveState } from "./live-state.ts";
import { advance, standingOf } from "./member/member.ts";
import { createMember, type MemberAction, type MemberEvent, type MemberState } from "./member/state.ts";
import { type Control, controlOf } from "./memory/control.ts";
import { isEvidenceDue, owedByPeers } from "./owed.ts";
import { Snapshots } from "./snapshots.ts";
import { StepClock } from "./step-clock.ts";
import { TraceRecorder } from "./trace/recorder.ts";
import { StepTrace } from "./trace/step-trace.ts";
import { ViewTags } from "./view-tags.ts";

/** What the worker's surroundings do for it. */
export interface WorkerHooks {
  send(message: Extract<MemberAction, { kind: "send" }>["message"]): void;
  /** The state image of a recorded checkpoint. @throws LockstepError LS_CHECKPOINT where it cannot be had whole */
  fetchCheckpoint(tip: Tip, bytes: number): Promise<Uint8Array>;
  deliverPredictions(batch: number, result: EvaluatedBatch): Promise<void>;
  onFinal(entry: LedgerEntry): void;
  /** This worker is done, or (`crashed`) cannot go on: whoever keeps it should start it again. */
  onExit(reason: string, crashed: boolean): void;
  log(event: string, detail: Record<string, unknown>): void;
}

/**
 * One worker at work: the membership machine decides, this class does it with the exchange, the compute thread and the
 * commit word. All of it runs on the main thread and never blocks longer than one hash of the state.
 */
export class LockstepWorker {
  readonly member: MemberState;
  readonly exchange: Exchange;
  readonly control: Control;
  readonly faults: WorkerFaults;
  readonly clock = new StepClock();
  /** null: nothing is traced. */
  readonly trace: StepTrace | null;
  private readonly config: Config;
  private readonly compute: Compute;
  private readonly ready: ComputeReady;
  private readonly hooks: WorkerHooks;
  private readonly data: FetchedData | null;
  private readonly state: LiveState;
  private readonly tags = new ViewTags();
  private readonly watch: ReturnWatch;
  private closing = false;
  private readonly snapshots = new Snapshots(
    (tip) => this.compute.post({ kind: "snapshot", tip }),
    (tip) => this.hooks.send({ kind: "snapshot", tip, bytes: this.ready.plan.state.bytes }),
  );
  private readonly held: HeldState;
  private stepStarted = performance.now();
  private phase: StepPhase = "idle";

  constructor(parts: {
    config: Config;
    self: Incarnation;
    compute: Compute;
    ready: ComputeReady;
    server: MemberServer;
    /** Fetches images as they are needed; null: all of them are there. */
    data: FetchedData | null;
    hooks: WorkerHooks;
    /** By which connections to members are secured; null: they are not. */
    trust?: Trust | null;
  }) {
    const { config, self, compute, ready, server, hooks, trust = null } = parts;
    this.config = config;
    this.compute = compute;
    this.ready = ready;
    this.hooks = hooks;
    this.data = parts.data;
    const arithmetic = loadArithmeticSync(ready.memory);
    this.control = controlOf(ready.memory, ready.plan.control.address);
    this.member = createMember(self, config.recipe.steps, ready.root);
    if (config.recipe.exchange === "none") {
      for (const { address, floats, table } of ready.plan.reduced) arithmetic.blockHashes(address, floats, table);
    }
    const { trace: traced, timing } = config.place;
    const recorder = traced === undefined ? null : new TraceRecorder(traced.steps, mostSpans(config.place.workers));
    this.trace = recorder === null ? null : new StepTrace(recorder, ready.layout);
    const { redialFirst, redialMax, levelTimeout } = timing;
    this.exchange = new Exchange(
      {
        run: config.runId,
        self,
        layout: ready.layout,
        shards: config.recipe.shards,
        wire: config.recipe.wire,
        memory: ready.memory,
        plan: ready.plan,
        arithmetic,
        redialFirst,
        redialMax,
        trust,
        trace: this.trace,
      },
      (event) => this.dispatch(event),
    );
    const post = (request: ComputeRequest) => compute.post(request);
    this.held = HeldState.of(config, ready.plan, post, (message) => hooks.send(message));
    this.state = new LiveState({
      run: config.runId,
      ready,
      arithmetic,
      control: this.control,
      member: this.member,
      trust,
      levelTimeout,
      post,
      fetchCheckpoint: (tip, bytes) => hooks.fetchCheckpoint(tip, bytes),
      restored: (tip) => this.dispatch({ kind: "restored", tip }),
      // The coordinator lets this worker go; it dials again and is asked anew.
      restoreFailed: (message) => hooks.send({ kind: "failed", code: "LS_CHECKPOINT", message }),
    });
    const { exchange, member, control } = this;
    this.faults = new WorkerFaults({ ...ready, post, exchange, member, counters: control.counters, ...hooks });
    this.watch = new ReturnWatch(
      () => post({ kind: "ping" }),
      () => returnPatience(config.place.timing, this.control.counters.get("shardMillis")),
      (millis) => this.crash("LS_COMPUTE", `The compute thread has not come back for ${Math.round(millis)} ms.`),
    );
    compute.listen(
      (reply) => this.onReply(reply),
      (reason) => this.onComputeDeath(reason),
    );
    server.serve({
      run: config.runId,
      exchange: this.exchange,
      state: this.state.source(
        () => this.snapshots.step,
        () => this.held.step,
      ),
      entriesAt: (step) =>
        this.state.step() === step ? { lineage: this.member.tip.lineage, entries: this.member.kept } : null,
    });
  }

  /** A message of the coordinator. */
  receive(message: CoordinatorMessage): void {
    if (message.kind === "snapshot") this.snapshots.want(this.member.tip, this.member.idle);
    else if (message.kind === "discard") this.snapshots.discard(message.step);
    else if (message.kind === "validationDone") this.held.done(message.step);
    else if (message.kind === "validate") this.predict(message, validationSettings(this.config)?.batch);
    else if (message.kind === "evaluate") {
      const size = this.config.place.evaluation?.batch;
      for (const batch of message.batches) this.predict({ kind: "evaluate", batch }, size);
    }
    this.dispatch({ kind: "coordinator", message });
    if (message.kind === "plan") this.faults.at("plan");
    if (message.kind === "welcome") this.dispatch({ kind: "reconnected" });
  }

  leave(reason: string): void {
    this.dispatch({ kind: "leave", reason });
  }

  standing() {
    return standingOf(this.member);
  }

  progress(): Progress {
    const { member, exchange, control } = this;
    const { view, step } = member;
    const stepMillis = performance.now() - this.stepStarted;
    return {
      view: view?.id ?? null,
      step: member.tip.step,
      phase: member.idle ? "idle" : this.phase,
      stepMillis,
      level: step?.level ?? (member.whole && view !== null),
      shardMillis: control.counters.get("shardMillis"),
      images: control.counters.get("images"),
      residentBytes: process.memoryUsage.rss(),
      peers:
        view !== null && step !== null && isEvidenceDue(stepMillis, this.config.place.timing)
          ? owedByPeers(view, member.self, step.trailers, exchange.owed(view.id, step.step))
          : [],
    };
  }

  close(): void {
    this.watch.end();
    this.state.abandonPull();
    this.exchange.close();
  }

  private dispatch(event: MemberEvent): void {
    this.clock.saw(event, performance.now());
    this.trace?.saw(event);
    if (event.kind === "restored") this.held.reached(event.tip);
    else if (event.kind === "reconnected") this.held.again();
    for (const action of advance(this.member, event)) this.perform(action);
  }

  private perform(action: MemberAction): void {
    this.clock.does(action, performance.now());
    this.trace?.does(action);
    switch (action.kind) {
      case "send":
        return this.hooks.send(action.message);
      case "openStreams":
        return this.exchange.openView(action.view);
      case "closeStreams":
        return this.exchange.closeView(action.view);
      case "begin":
        return this.begin(action.view, action.step);
      case "compute": {
        const { shards } = action.view.members.find((m) => m.incarnation === this.member.self)!;
        return this.withData(this.data?.shards(shards) ?? null, () => {
          if (!this.isCurrent(action.view.id, action.step)) return;
          this.phase = "compute";
          this.compute.post({ kind: "compute", viewTag: this.tags.of(action.view.id), step: action.step, shards });
        });
      }
      case "pull":
        return void this.pull(action.view, action.step, action.from);
      case "publishTrailer":
        this.phase = "exchange";
        return this.exchange.publishTrailer(action.trailer);
      case "commit": {
        const { view, step, parent, shards } = action;
        this.faults.beforeCommit(step);
        const samples = shards.reduce((sum, shard) => sum + shard.samples, 0);
        const idsDigests = shards.map((shard) => shard.idsDigest);
        const commit = { kind: "commit", viewTag: this.tags.of(view), step, parent, idsDigests, samples } as const;
        this.phase = this.held.before(step, () => this.compute.post(commit)) ? "update" : "evaluate";
        return;
      }
      case "close":
        this.faults.at("change");
        this.watch.begin();
        this.held.closed();
        this.state.abandonPull();
        this.closing = this.control.commitWord.tryClose() === "updating";
        if (!this.closing) this.answerClosed();
        return;
      case "hash":
        this.faults.at("rest");
        return queueMicrotask(() => this.hashAtRest(action.step));
      case "restore":
        this.held.replaced();
        return void this.state.restore(action.tip);
      case "final":
        return this.hooks.onFinal(action.entry);
      case "stalled":
        return this.hooks.log("waits for the coordinator to record earlier steps", action);
      case "exit":
        return this.hooks.onExit(action.reason, false);
      default:
        return action satisfies never;
    }
  }

  private predict(request: ComputeRequest & { readonly batch: number }, size = 0): void {
    const coming = this.data?.test(request.batch * size, (request.batch + 1) * size) ?? null;
    this.withData(coming, () => this.compute.post(request));
  }

  /** Goes on at once where the images are there, else when they have come. */
  private withData(coming: Promise<void> | null, go: () => void): void {
    if (coming === null) return go();
    this.phase = "loading";
    coming.then(go, (error: unknown) => this.crash("LS_DATA_FETCH", sentenceOf(error)));
  }

  private begin(view: View, step: number): void {
    const { commitWord } = this.control;
    const tag = this.tags.of(view.id);
    const word = commitWord.read();
    if (word.phase !== "open" || word.viewTag !== tag || word.step !== step) {
      commitWord.tryClose();
      commitWord.open(tag, step);
    }
    this.stepStarted = performance.now();
    this.exchange.begin(view.id, step);
  }

  private hashAtRest(step: number): void {
    this.dispatch({ kind: "hashed", step, stateHash: this.state.hash() });
    if (this.member.idle && this.member.whole) this.snapshots.reached(this.member.tip);
  }

  private answerClosed(): void {
    queueMicrotask(() => this.dispatch({ kind: "closed", stateHash: this.state.hash() }));
  }

  private onReply(reply: ComputeReply): void {
    switch (reply.kind) {
      case "summed": {
        const view = this.tags.view(reply.viewTag);
        if (view === undefined || !this.isCurrent(view, reply.step)) return;
        this.faults.beforeSending(reply.nodes);
        // Nobody ever writes into the reduced vectors then: all apply zeros, and states stay equal.
        if (this.config.recipe.exchange === "none") this.dispatch({ kind: "reduced", view, step: reply.step });
        else this.exchange.publishNodes(view, reply.step, reply.nodes);
        this.faults.at("exchange");
        if (reply.step === this.config.recipe.steps - 1) this.faults.at("last");
        return;
      }
      case "computed": {
        const view = this.tags.view(reply.viewTag);
        if (view === undefined || !this.isCurrent(view, reply.step)) return;
        const { step, shards, stateHash } = reply;
        return this.dispatch({ kind: "computed", view, step, shards, stateHash });
      }
      case "updated": {
        const view = this.tags.view(reply.viewTag)!;
        const { lineage, stateHash, loss, gradientNorm, applied } = reply;
        const tip = { step: reply.step + 1, lineage, stateHash };
        this.snapshots.reached(tip);
        this.held.reached(tip);
        this.dispatch({
          kind: "updated",
          view,
          step: reply.step,
          outcome: { lineage, stateHash, loss, gradientNorm, applied },
        });
        if (this.closing) {
          this.closing = false;
          this.answerClosed();
        }
        return;
      }
      case "initial":
        return this.dispatch({ kind: "restored", tip: reply.tip });
      case "snapshot":
        this.snapshots.taken(reply.tip);
        return this.faults.at("checkpoint");
      case "evaluated":
        return void this.hooks.deliverPredictions(reply.batch, reply.result).then(
          () => this.hooks.send({ kind: "evaluated", batch: reply.batch }),
          (error: unknown) => this.crash("LS_PREDICTIONS", sentenceOf(error)),
        );
      case "held":
        return this.held.kept(reply.step, reply.sound);
      case "validated":
        return this.hooks.send(reply);
      case "failed":
        this.hooks.log("computeFailed", { code: reply.code, stack: reply.stack });
        // Where in its work it was cannot be known, so that its state is void.
        return this.crash(reply.code, reply.message);
      case "pong":
        return this.watch.end();
      case "spans":
        return this.trace?.thread(reply.spans);
      case "strike":
        return this.faults.strike(reply.fault);
      case "notCommitted": {
        const view = this.tags.view(reply.viewTag);
        if (!reply.corrupt || view === undefined) return;
        return this.dispatch({ kind: "corrupt", view, step: reply.step, from: this.member.self });
      }
      case "ready":
        return;
      default:
        return reply satisfies never;
    }
  }

  private onComputeDeath(reason: string): void {
    const { whole } = this.control.commitWord.abandon();
    this.hooks.log("computeDied", { reason, whole });
    this.crash("LS_COMPUTE", `The compute thread died: ${reason}.`);
  }

  private crash(code: string, message: string): void {
    this.hooks.send({ kind: "failed", code, message });
    this.hooks.onExit(`${message} [${code}]`, true);
  }

  private async pull(view: View, step: number, from: readonly string[]): Promise<void> {
    this.phase = "waiting";
    this.held.replaced();
    const result = await this.state.pull(step, from);
    this.faults.at("join");
    const stateHash = result === null ? null : this.state.hash();
    this.hooks.log("pulled", { view: viewName(view.id), step, stateHash });
    this.dispatch({ kind: "pulled", view: view.id, step, stateHash, entries: result?.entries ?? [] });
  }

  private isCurrent(view: ViewId, step: number): boolean {
    return this.member.step?.step === step && sameView(this.member.view?.id ?? null, view);
  }
}
