import { step as advanceMachine } from "../../coordinator/machine/machine.ts";
import { createMachine, type MachineAction, type MachineEvent, type Outcome } from "../../coordinator/machine/state.ts";
import type { Guard } from "../../shared/protocol/guards.ts";
import type { CoordinatorMessage, WorkerMessage } from "../../shared/protocol/messages.ts";
import { type Incarnation, type Tip, type View, viewName } from "../../shared/protocol/view.ts";
import { Random, VirtualClock } from "./clock.ts";
import { crashCoordinator } from "./faults.ts";
import { BATCHES } from "./held.ts";
import { checkBase, checkFinal, checkShards, checkSilence, ViewContents, Violation } from "./invariants.ts";
import { Line } from "./line.ts";
import { RULING_MILLIS, type SimCoordinator, TIMING, type WorldOptions } from "./options.ts";
import { type DurableRecord, historyOf } from "./records.ts";
import { helloOf, progressOf } from "./reports.ts";
import { SimWorker } from "./sim-worker.ts";

export class World {
  readonly clock = new VirtualClock();
  readonly random: Random;
  readonly totalSteps: number;
  /** The undisturbed run. */
  readonly line: Line;
  readonly shardMillis = 20;
  readonly options: WorldOptions;
  readonly workers = new Map<Incarnation, SimWorker>();
  readonly records: DurableRecord[] = [];
  readonly checkpoints: { readonly tip: Tip; readonly content: string }[] = [];
  coordinators: SimCoordinator[] = [];
  outcome: Outcome | null = null;
  faults = 0;
  private nextWorker = 0;
  readonly contents = new ViewContents();
  /** Ordered pairs "a>b" that cannot talk now. */
  readonly cuts = new Set<string>();
  /** A bit was flipped: a state may be wrong until the protocol finds it. */
  readonly tainted = new Set<Incarnation>();
  readonly trace: string[] = [];
  readonly without: ReadonlySet<Guard>;

  constructor(options: WorldOptions) {
    this.options = options;
    this.without = options.without ?? new Set();
    this.random = new Random(options.seed);
    this.totalSteps = options.totalSteps;
    this.line = new Line(options.totalSteps);
    this.startCoordinator();
    for (let i = 0; i < options.workers; i++) this.addWorker();
  }

  note(text: () => string): void {
    if (this.options.tracing === true) this.trace.push(`${this.clock.now.toFixed(1)} ${text()}`);
  }

  // ---- workers

  addWorker(): SimWorker {
    const incarnation = `w${this.nextWorker++}` as Incarnation;
    const worker = new SimWorker(this, incarnation);
    this.workers.set(incarnation, worker);
    this.note(() => `start ${incarnation}`);
    worker.later(200, () => this.dial(worker));
    const beat = () => {
      if (!worker.alive || this.outcome !== null) return;
      if (!worker.frozen) worker.send({ kind: "heartbeat", progress: progressOf(worker) });
      this.clock.after(TIMING.heartbeatInterval, beat);
    };
    beat();
    return worker;
  }

  reachable(from: string, to: string): boolean {
    return !this.cuts.has(`${from}>${to}`) && !this.cuts.has(`${to}>${from}`);
  }

  /** Delivers to every other member of a view, late, sometimes twice, once both sides have the view open. */
  broadcast(from: SimWorker, view: View, deliver: (peer: SimWorker) => void): void {
    for (const member of view.members) {
      if (member.incarnation === from.incarnation) continue;
      const copies = this.random.next() < 0.05 ? 2 : 1;
      for (let copy = 0; copy < copies; copy++) this.carry(from, member.incarnation, view, deliver, 0);
    }
  }

  private carry(from: SimWorker, to: Incarnation, view: View, deliver: (peer: SimWorker) => void, tries: number): void {
    this.clock.after(this.random.delay(2), () => {
      const peer = this.workers.get(to);
      if (peer === undefined || !peer.alive || !from.alive || !from.views.has(viewName(view.id))) return;
      if (this.cuts.has(`${from.incarnation}>${to}`) || !peer.views.has(viewName(view.id)) || peer.frozen) {
        // The stream redials or waits for the receiver and says it again.
        if (tries < 3000) this.clock.after(50, () => this.carry(from, to, view, deliver, tries + 1));
        return;
      }
      deliver(peer);
    });
  }

  // ---- the session between workers and the coordinator

  get ruler(): SimCoordinator | undefined {
    const last = this.coordinators.at(-1);
    return last?.alive ? last : undefined;
  }

  dial(worker: SimWorker): void {
    if (!worker.alive || worker.frozen || worker.link !== null || this.outcome !== null) return;
    const coordinator = this.ruler;
    if (coordinator === undefined || !this.reachable(worker.incarnation, "coordinator")) {
      worker.later(150, () => this.dial(worker));
      return;
    }
    worker.link = coordinator.term;
    worker.dials += 1;
    const hello = helloOf(worker);
    const standing = hello.standing!;
    const fresh = worker.member.view === null && worker.member.promised === null;
    this.deliver(coordinator, worker, () => {
      this.feed(coordinator, { kind: "hello", hello: fresh ? { ...hello, standing: null } : hello });
      this.fromCoordinator(coordinator, worker.incarnation, {
        kind: "welcome",
        term: coordinator.term,
        config: null as never,
        fingerprint: null,
      });
      if (fresh) {
        this.deliver(coordinator, worker, () =>
          this.feed(coordinator, {
            kind: "message",
            from: worker.incarnation,
            message: {
              kind: "ready",
              fingerprint: ["f"],
              root: "root",
              standing,
              facts: { parameters: 1, weightBytes: 1, stateBytes: 1, sections: [] },
            },
          }),
        );
      }
    });
  }

  /** Messages of one connection keep their order, also when a cut holds them up. */
  private readonly lines = new Map<string, { readonly queue: (() => void)[]; busy: boolean }>();
  private ordered(key: string, cut: string, run: () => void): void {
    const line = this.lines.get(key) ?? { queue: [], busy: false };
    this.lines.set(key, line);
    line.queue.push(run);
    if (line.busy) return;
    line.busy = true;
    const pump = () => {
      if (this.cuts.has(cut)) return this.clock.after(50, pump);
      line.queue.shift()?.();
      if (line.queue.length > 0) this.clock.after(this.random.delay(1), pump);
      else line.busy = false;
    };
    this.clock.after(this.random.delay(1), pump);
  }

  private deliver(coordinator: SimCoordinator, worker: SimWorker, run: () => void): void {
    const { dials } = worker;
    this.ordered(`${worker.incarnation}#${dials}>`, `${worker.incarnation}>coordinator`, () => {
      if (!coordinator.alive || worker.dials !== dials || worker.link === null) return;
      if (coordinator.frozen) coordinator.thawQueue.push(run);
      else run();
    });
  }

  toCoordinator(worker: SimWorker, message: WorkerMessage): void {
    if (message.kind !== "heartbeat")
      this.note(() => `${worker.incarnation} says ${JSON.stringify(message).slice(0, 120)}`);
    const coordinator = this.coordinators.find((c) => c.term === worker.link);
    if (coordinator === undefined) return;
    this.deliver(coordinator, worker, () =>
      this.feed(coordinator, { kind: "message", from: worker.incarnation, message }),
    );
  }

  private fromCoordinator(coordinator: SimCoordinator, to: Incarnation, message: CoordinatorMessage): void {
    const worker = this.workers.get(to);
    if (worker === undefined || worker.link !== coordinator.term) return;
    const { dials } = worker;
    const membership = message.kind === "prepare" || message.kind === "install" || message.kind === "plan";
    if (membership && this.random.next() < 0.05) {
      // A copy that comes late, whatever has happened in between.
      this.clock.after(this.random.next() * 3000, () => worker.receive(message));
    }
    this.ordered(`>${to}#${dials}`, `coordinator>${to}`, () => {
      if (!worker.alive || worker.link !== coordinator.term || worker.dials !== dials) return;
      if (message.kind !== "heartbeat") this.note(() => `${to} hears ${JSON.stringify(message).slice(0, 120)}`);
      worker.receive(message);
    });
  }

  /** The connection between a worker and its coordinator ends; the worker redials. */
  hangUp(worker: SimWorker, died: boolean): void {
    const coordinator = this.coordinators.find((c) => c.term === worker.link);
    worker.link = null;
    if (!died) worker.later(100, () => this.dial(worker));
    if (coordinator === undefined || !coordinator.alive) return;
    const dials = worker.dials;
    this.clock.after(this.random.delay(2), () => {
      // The service knows which connection of a worker is its newest one.
      if (worker.dials === dials) this.feed(coordinator, { kind: "disconnected", incarnation: worker.incarnation });
    });
  }

  // ---- the coordinator

  startCoordinator(): void {
    const term = this.coordinators.length + 1;
    const { workers, shards, minWorkers, validateEvery, patient } = this.options;
    const patience = patient === true ? 1e6 : null;
    const history = historyOf(this.records, this.line.root, validateEvery);
    const machine = createMachine(
      {
        term,
        shards,
        totalSteps: this.totalSteps,
        workers,
        minWorkers,
        timing: { ...TIMING, ...this.options.timing },
        balance: { gain: 0.15, steps: 2 },
        checkpointEverySteps: 4,
        evaluationBatches: 0,
        validation: validateEvery === undefined ? null : { everySteps: validateEvery, batches: BATCHES, patience },
        without: this.without,
      },
      history,
      this.clock.now,
    );
    const coordinator: SimCoordinator = { term, machine, alive: true, frozen: false, fellBack: false, thawQueue: [] };
    this.note(() => `coordinator of term ${term}`);
    this.coordinators.push(coordinator);
    const tick = () => {
      if (!coordinator.alive || this.outcome !== null) return;
      if (!coordinator.frozen) this.feed(coordinator, { kind: "tick" });
      if (!coordinator.frozen) checkSilence(machine, this.clock.now);
      this.clock.after(100, tick);
    };
    tick();
    const look = () => {
      if (!coordinator.alive || this.outcome !== null) return;
      if (coordinator.frozen || this.rules(coordinator)) this.clock.after(RULING_MILLIS, look);
    };
    look();
    const beat = () => {
      if (!coordinator.alive || this.outcome !== null) return;
      if (!coordinator.frozen) {
        for (const worker of machine.workers.values()) {
          if (worker.connected) {
            const recorded = machine.ledger?.step ?? 0;
            this.fromCoordinator(coordinator, worker.incarnation, { kind: "heartbeat", term, recorded });
          }
        }
      }
      this.clock.after(TIMING.heartbeatInterval, beat);
    };
    beat();
  }

  dropLinks(coordinator: SimCoordinator, share: number): void {
    for (const worker of this.workers.values()) {
      if (!worker.alive || worker.link !== coordinator.term || this.random.next() > share) continue;
      worker.link = null;
      worker.later(100, () => this.dial(worker));
    }
  }

  feed(coordinator: SimCoordinator, event: MachineEvent): void {
    if (!coordinator.alive || this.outcome !== null) return;
    const actions = advanceMachine(coordinator.machine, event, this.clock.now);
    for (const action of actions) {
      // A crash may fall between any two actions; a superseded coordinator notices before it writes.
      if (this.crashBetween > 0 && this.random.next() < this.crashBetween) {
        this.crashBetween = 0;
        crashCoordinator(this);
      }
      if (!coordinator.alive) return;
      this.perform(coordinator, action);
    }
  }

  /** Probability that the coordinator dies before its next action; set by the schedule, used once. */
  crashBetween = 0;

  /** One that finds a newer term lets its workers go. */
  private rules(coordinator: SimCoordinator): boolean {
    if (this.coordinators.at(-1) === coordinator || this.without.has("one-term-rules")) return true;
    this.note(() => `coordinator ${coordinator.term} is superseded`);
    coordinator.alive = false;
    this.dropLinks(coordinator, 1);
    return false;
  }

  private durable(coordinator: SimCoordinator, record: DurableRecord): boolean {
    if (!this.rules(coordinator)) return false;
    if (!this.without.has("durable-before-act")) this.records.push(record);
    else this.clock.after(100, () => coordinator.alive && this.records.push(record));
    return true;
  }

  private perform(coordinator: SimCoordinator, action: MachineAction): void {
    const { term } = coordinator;
    switch (action.kind) {
      case "send":
        return this.fromCoordinator(coordinator, action.to, action.message);
      case "close": {
        const worker = this.workers.get(action.incarnation);
        this.note(() => `evict ${action.incarnation}: ${action.reason}`);
        if (worker?.alive && worker.link === term) this.hangUp(worker, false);
        return;
      }
      case "recordView":
        this.note(
          () =>
            `view ${viewName(action.view.id)} ${action.reason}: ${action.view.members.map((m) => `${m.incarnation}[${m.shards.from}-${m.shards.to}]${m.entry}`).join(" ")}`,
        );
        // What a superseded coordinator writes does not count, and nobody follows it.
        if (!this.durable(coordinator, { term, kind: "view", view: action.view })) return;
        if (action.base !== null && !coordinator.fellBack) checkBase(action.view, action.base, this);
        coordinator.fellBack &&= action.base === null;
        return;
      case "recordFinal":
        for (const entry of action.entries) {
          checkFinal(entry, this);
          checkShards(entry, this);
          if (!this.durable(coordinator, { term, kind: "final", entry })) return;
        }
        return;
      case "recordFirst":
        this.durable(coordinator, { term, kind: "first", fingerprint: action.fingerprint, root: action.root });
        return;
      case "recordValidation":
        this.durable(coordinator, { term, kind: "validation", validation: action.validation });
        return;
      case "recordTruncate":
        this.note(() => `truncate to ${action.tip.step}`);
        this.durable(coordinator, { term, kind: "truncate", tip: action.tip });
        return;
      case "storeCheckpoint":
        this.clock.after(this.random.delay(20), () => {
          if (!coordinator.alive) return;
          const worker = this.workers.get(action.from);
          const image = worker?.held.imageOf(action.tip) ?? worker?.snapshot;
          const good = worker?.alive && !worker.frozen && image?.tip.step === action.tip.step;
          if (!good || image == null)
            return this.feed(coordinator, { kind: "checkpointFailed", tip: action.tip, reason: "gone" });
          if (image.content !== this.line.content(action.tip.step))
            throw new Violation("sound-checkpoints", "a wrong state became a checkpoint");
          if (!this.durable(coordinator, { term, kind: "checkpoint", tip: action.tip })) return;
          this.checkpoints.push(image);
          this.feed(coordinator, { kind: "checkpointStored", tip: action.tip });
        });
        return;
      case "probe":
        this.clock.after(this.random.delay(2), () => {
          const worker = this.workers.get(action.incarnation);
          if (worker === undefined || !worker.alive)
            this.feed(coordinator, { kind: "refused", incarnation: action.incarnation });
        });
        return;
      case "event":
        if (action.event.type === "fallback") coordinator.fellBack = true;
        if (action.event.type !== "worker" || action.event.change === "standby")
          this.note(() => `event ${JSON.stringify(action.event)}`);
        return;
      case "retreat":
        return; // Every simulated step is finite.
      case "finish":
        this.note(() => `finish ${JSON.stringify(action.outcome)} by ${term}`);
        if (action.outcome.kind === "failed" && action.outcome.code === "LS_SUPERSEDED") {
          coordinator.alive = false;
          this.dropLinks(coordinator, 1);
          return;
        }
        if (this.coordinators.at(-1) === coordinator) this.outcome = action.outcome;
        return;
      default:
        return action satisfies never;
    }
  }
}
