import type { Guard } from "../../shared/protocol/guards.ts";
import type { CoordinatorMessage, PeerState, Standing } from "../../shared/protocol/messages.ts";
import type { LedgerEntry, ShardRecord, Trailer } from "../../shared/protocol/trailer.ts";
import { compareViews, type Member, sameView, type Tip, type View, type ViewId } from "../../shared/protocol/view.ts";
import { KEPT_BOUND, type MemberAction, type MemberEvent, type MemberState, type StepOutcome } from "./state.ts";

/**
 * The membership of one worker as a deterministic machine: it takes one event, moves `state` on in place, and says what
 * to do, in order. No I/O and no clock, so that the same code runs in the worker process and in the simulator.
 *
 * What it guarantees: a step is committed only with every member's trailer and the whole reduced vector, all level
 * trailers agreeing in lineage and state hash; after a promise no step of an older view commits; a view is entered only
 * by an install that this member promised or by a plan whose id all trailers of a step carried.
 */
export function advance(state: MemberState, event: MemberEvent): MemberAction[] {
  const actions: MemberAction[] = [];
  const machine = new Advance(state, actions);
  machine.handle(event);
  return actions;
}

class Advance {
  private readonly state: MemberState;
  private readonly actions: MemberAction[];

  constructor(state: MemberState, actions: MemberAction[]) {
    this.state = state;
    this.actions = actions;
  }

  handle(event: MemberEvent): void {
    switch (event.kind) {
      case "coordinator":
        return this.onCoordinator(event.message);
      case "reconnected":
        return this.repeatStatus();
      case "trailer":
        return this.onTrailer(event.trailer);
      case "active":
        return this.onActive(event.view, event.step);
      case "reduced":
        if (this.isCurrent(event.view, event.step)) {
          this.state.step!.reduced = true;
          this.tryCommit();
        } else if (event.step >= this.state.tip.step) {
          this.state.earlyReduced = { view: event.view, step: event.step };
        }
        return;
      case "corrupt":
        if (this.isCurrent(event.view, event.step)) this.block(event.from);
        return;
      case "lost":
        if (sameView(this.state.view?.id ?? null, event.view)) {
          this.send({ kind: "lost", view: event.view, peer: event.peer, refused: event.refused });
        }
        return;
      case "computed":
        return this.onComputed(event.view, event.step, event.shards, event.stateHash);
      case "updated":
        return this.onUpdated(event.view, event.step, event.outcome);
      case "closed":
        return this.onClosed(event.stateHash);
      case "hashed":
        return this.onHashed(event.step, event.stateHash);
      case "pulled":
        return this.onPulled(event.view, event.step, event.stateHash, event.entries);
      case "restored":
        this.state.tip = event.tip;
        this.state.whole = true;
        this.state.kept = [];
        this.state.finalBelow = event.tip.step;
        return this.send({ kind: "restored", standing: this.standing() });
      case "leave":
        this.state.leaving = event.reason;
        return this.send({ kind: "leaving", reason: event.reason });
      default:
        return event satisfies never;
    }
  }

  // ---- what the coordinator says

  private onCoordinator(message: CoordinatorMessage): void {
    const { state } = this;
    switch (message.kind) {
      case "welcome":
        if (message.term > state.term) state.term = message.term;
        return;
      case "heartbeat":
        if (message.term < state.term) return;
        state.term = message.term;
        state.recorded = message.recorded;
        state.kept = state.kept.filter((entry) => entry.step >= state.recorded);
        return this.tryCommit();
      case "prepare":
        return this.onPrepare(message.id);
      case "install":
        return this.onInstall(message.view, message.base);
      case "plan":
        return this.onPlan(message.view);
      case "restore":
        // Only outside of a view: a member's live state is never overwritten.
        if (state.word === "closed" && state.step === null) this.act({ kind: "restore", tip: message.tip });
        return;
      case "release":
        return this.act({ kind: "exit", reason: message.reason });
      case "rejected":
      case "snapshot":
      case "discard":
      case "evaluate":
      case "inject":
      case "access":
        return; // The process around the machine does these; they do not touch membership.
      default:
        return message satisfies never;
    }
  }

  private onPrepare(id: ViewId): void {
    const { state } = this;
    if (this.guarded("refuse-lower-views") && state.promised !== null && compareViews(id, state.promised) <= 0) {
      if (!sameView(id, state.promised)) this.send({ kind: "refuse", id, promised: state.promised });
      else if (state.answering === null && state.word === "closed") this.closeFor(id);
      return;
    }
    state.promised = id;
    this.dropPlan();
    this.closeFor(id);
  }

  private closeFor(id: ViewId): void {
    if (!this.guarded("close-before-answer")) return this.send({ kind: "answer", id, standing: this.standing() });
    this.state.answering = id;
    this.act({ kind: "close" });
  }

  private onClosed(stateHash: string): void {
    const { state } = this;
    state.word = "closed";
    state.step = null;
    this.verify(stateHash);
    if (state.answering === null) return;
    const id = state.answering;
    state.answering = null;
    this.send({ kind: "answer", id, standing: this.standing() });
  }

  private onInstall(view: View, base: Tip): void {
    const { state } = this;
    const lower = state.promised !== null && compareViews(view.id, state.promised) < 0;
    if (lower && this.guarded("refuse-lower-views") && state.promised !== null) {
      return this.send({ kind: "refuse", id: view.id, promised: state.promised });
    }
    if (state.word !== "closed" || state.step !== null) return;
    // Once: a copy that comes late must not bring a view back.
    if (state.view !== null && compareViews(view.id, state.view.id) <= 0) return;
    const me = this.memberOf(view);
    if (me === undefined) return;
    state.promised = view.id;
    this.dropPlan();
    this.closeLeft();
    if (state.view !== null) this.act({ kind: "closeStreams", view: state.view.id });
    this.act({ kind: "openStreams", view });
    const level =
      state.whole && me.entry === "level" && state.tip.step === base.step && state.tip.lineage === base.lineage;
    this.enter(view, base.step, level, base);
  }

  private onPlan(view: View): void {
    const { state } = this;
    const follows = sameView(view.predecessor, state.view?.id ?? null);
    const joins = state.step === null && this.memberOf(view) !== undefined;
    if (!follows && !joins) return;
    if (state.promised !== null && compareViews(view.id, state.promised) <= 0) return;
    if (state.plan !== null) {
      if (sameView(state.plan.id, view.id)) return;
      if (compareViews(view.id, state.plan.id) < 0) return;
      this.dropPlan();
    }
    state.plan = view;
    if (this.memberOf(view) !== undefined) this.act({ kind: "openStreams", view });
  }

  private dropPlan(): void {
    const { state } = this;
    if (!this.guarded("promise-drops-plan")) return;
    if (state.plan !== null && this.memberOf(state.plan) !== undefined) {
      this.act({ kind: "closeStreams", view: state.plan.id });
    }
    state.plan = null;
    state.early = state.early.filter((trailer) => sameView(trailer.view, state.view?.id ?? null));
  }

  // ---- a step

  /** Starts `step` in `view`. A member that is not level gets level first. */
  private enter(view: View, step: number, level: boolean, base: Tip | null): void {
    const { state } = this;
    state.view = view;
    // Being in a view is a promise, too.
    if (state.promised === null || compareViews(view.id, state.promised) > 0) state.promised = view.id;
    state.complaint = null;
    state.idle = false;
    this.reportUnrecorded();
    if (view.kind === "stop" || step >= state.totalSteps) {
      if (level) return this.rest();
    }
    const trailers = new Map<Member["incarnation"], Trailer>();
    state.step = {
      step,
      level,
      pull: "none",
      computed: false,
      reduced: false,
      blocked: false,
      stalled: false,
      trailers,
    };
    state.word = "open";
    const ready = state.earlyReduced;
    state.step.reduced = ready !== null && ready.step === step && sameView(ready.view, view.id);
    state.earlyReduced = null;
    this.act({ kind: "begin", view, step });
    if (level) {
      this.act({ kind: "compute", view, step });
    } else {
      // The lineage of what is pulled is the base's; a joiner of a planned view learns it from the trailers.
      if (base !== null) state.tip = { step, lineage: base.lineage, stateHash: "" };
      state.whole = false;
      state.step.pull = "pulling";
      const from = view.members.filter((member) => member.entry === "level").map((member) => member.address);
      this.act({ kind: "pull", view, step, from });
    }
    const waiting = state.early;
    state.early = [];
    for (const trailer of waiting) this.onTrailer(trailer);
  }

  private onPulled(view: ViewId, step: number, stateHash: string | null, entries: readonly LedgerEntry[]): void {
    const { state } = this;
    if (!this.isCurrent(view, step) || state.step!.pull !== "pulling") return;
    const me = this.memberOf(state.view!)!;
    state.kept = this.guarded("entries-travel") ? entries.filter((entry) => entry.step >= state.recorded) : [];
    state.finalBelow = step - 1;
    state.step!.pull = stateHash === null ? "failed" : "done";
    if (me.entry === "lagging") {
      if (stateHash === null) return this.block(null);
      state.whole = true;
      state.step!.level = true;
      state.tip = { ...state.tip, step, stateHash };
      return this.act({ kind: "compute", view: state.view!, step });
    }
    this.publish([], stateHash ?? "");
  }

  private onComputed(view: ViewId, step: number, shards: readonly ShardRecord[], stateHash: string): void {
    if (!this.isCurrent(view, step)) return;
    if (!this.verify(stateHash)) return this.block(null);
    this.publish(shards, stateHash);
  }

  /** A state that changed since its last update was hit by something else: it is not whole any more. */
  private verify(stateHash: string): boolean {
    const { state } = this;
    if (state.tip.stateHash === "") state.tip = { ...state.tip, stateHash };
    if (!this.guarded("own-hash") || state.tip.stateHash === stateHash) return true;
    state.whole = false;
    return false;
  }

  private publish(shards: readonly ShardRecord[], stateHash: string): void {
    const { state } = this;
    const step = state.step!;
    step.computed = true;
    const trailer: Trailer = {
      view: state.view!.id,
      step: step.step,
      from: state.self,
      level: step.level,
      lineage: step.level ? state.tip.lineage : "",
      stateHash,
      shards,
      plan: state.plan?.id ?? null,
    };
    step.trailers.set(state.self, trailer);
    this.act({ kind: "publishTrailer", trailer });
    this.tryCommit();
  }

  private onTrailer(trailer: Trailer): void {
    const { state } = this;
    if (this.isCurrent(trailer.view, trailer.step)) {
      if (!state.view!.members.some((member) => member.incarnation === trailer.from)) return;
      state.step!.trailers.set(trailer.from, trailer);
      return this.tryCommit();
    }
    const ahead =
      (sameView(trailer.view, state.view?.id ?? null) && trailer.step > (state.step?.step ?? state.tip.step - 1)) ||
      sameView(trailer.view, state.plan?.id ?? null) ||
      (state.promised !== null && compareViews(trailer.view, state.promised) >= 0);
    if (!ahead || !this.guarded("early-trailers")) return;
    const known = state.early.findIndex((t) => t.from === trailer.from && sameView(t.view, trailer.view));
    if (known >= 0) state.early.splice(known, 1);
    state.early.push(trailer);
    if (state.early.length > 4096) state.early.shift();
  }

  /** Commits when everything is in and equal; blocks when something differs. */
  private tryCommit(): void {
    const { state } = this;
    const step = state.step;
    if (step === null || state.word !== "open" || step.blocked || !step.computed) return;
    const view = state.view!;
    const all = view.members.every((member) => step.trailers.has(member.incarnation));
    if (!all && (this.guarded("all-trailers") || !step.reduced)) return;
    const trailers = [...step.trailers.values()];
    const level = trailers.filter((trailer) => trailer.level);
    const common = level[0];
    if (common === undefined) return this.block(null);
    const equal = level.every((t) => t.lineage === common.lineage && t.stateHash === common.stateHash);
    if (!equal && this.guarded("equal-states")) return this.block(null);
    if (!step.reduced) return;
    if (state.kept.length >= KEPT_BOUND) {
      if (!step.stalled) this.act({ kind: "stalled", step: step.step, unrecorded: state.kept.length });
      step.stalled = true;
      return;
    }
    if (!step.level) {
      const proven = step.trailers.get(state.self)!.stateHash === common.stateHash && step.pull === "done";
      if (!proven && this.guarded("joiner-proves-itself")) return this.moveOn(step.step + 1, false, trailers);
      step.level = true;
      state.whole = true;
      state.tip = { step: step.step, lineage: common.lineage, stateHash: common.stateHash };
    }
    this.markFinal(step.step, common.stateHash);
    state.word = "committing";
    const shards = trailers.flatMap((trailer) => trailer.shards).sort((a, b) => a.shard - b.shard);
    this.act({ kind: "commit", view: view.id, step: step.step, parent: state.tip.lineage, shards });
  }

  private onUpdated(viewId: ViewId, stepNumber: number, outcome: StepOutcome): void {
    const { state } = this;
    if (!this.isCurrent(viewId, stepNumber)) return;
    const step = state.step!;
    const trailers = [...step.trailers.values()];
    state.tip = { step: stepNumber + 1, lineage: outcome.lineage, stateHash: outcome.stateHash };
    const shards = trailers
      .flatMap((trailer) => trailer.shards.map((shard) => ({ ...shard, by: trailer.from })))
      .sort((a, b) => a.shard - b.shard);
    state.kept.push({
      step: stepNumber,
      view: viewId,
      lineage: outcome.lineage,
      stateHash: "",
      shards,
      loss: outcome.loss,
      gradientNorm: outcome.gradientNorm,
      applied: outcome.applied,
    });
    this.closeLeft();
    // A close that came too late waits for this update and answers with what it made.
    if (state.answering !== null) return;
    this.moveOn(stepNumber + 1, true, trailers);
  }

  /** After a step: into the planned view if every trailer carried its id, else on in the same view. */
  private moveOn(next: number, level: boolean, trailers: readonly Trailer[]): void {
    const { state } = this;
    state.step = null;
    state.word = "closed";
    const { plan } = state;
    const announced = (trailer: Trailer) =>
      sameView(trailer.plan, plan?.id ?? null) || !this.guarded("plan-in-all-trailers");
    const planned = plan !== null && trailers.every(announced);
    if (!planned) return this.enter(state.view!, next, level, null);
    const left = state.view!;
    state.plan = null;
    this.send({ kind: "switched", id: plan.id, step: next });
    // Slower members may still need what we sent in the old view: its streams stay until this view's first commit.
    this.closeLeft();
    state.left = left.id;
    if (this.memberOf(plan) === undefined) {
      state.view = plan;
      return this.rest();
    }
    if (!this.guarded("left-streams-stay")) this.closeLeft();
    this.enter(plan, next, level, null);
  }

  /** A joiner of a planned view learns from a peer that it took effect. */
  private onActive(view: ViewId, step: number): void {
    const { state } = this;
    const { plan } = state;
    if (plan === null || !sameView(plan.id, view) || state.step !== null || state.word !== "closed") return;
    if (sameView(plan.predecessor, state.view?.id ?? null)) return; // Members switch by their own trailers.
    if (state.promised !== null && compareViews(view, state.promised) <= 0) return;
    state.plan = null;
    // A view that went on without this worker: nobody will close it any more.
    this.closeLeft();
    if (state.view !== null) this.act({ kind: "closeStreams", view: state.view.id });
    this.enter(plan, step, false, null);
  }

  // ---- rest and final steps

  private rest(): void {
    const { state } = this;
    state.step = null;
    state.word = "closed";
    state.idle = true;
    this.act({ kind: "hash", step: state.tip.step });
  }

  private onHashed(step: number, stateHash: string): void {
    const { state } = this;
    if (!state.idle || state.view === null || state.tip.step !== step) return;
    this.verify(stateHash);
    this.send({ kind: "idle", view: state.view.id, standing: this.standing() });
  }

  /** Trailers of `step` agree: the step before it was applied by all, and this is the hash that it made. */
  private markFinal(step: number, stateHash: string): void {
    const { state } = this;
    const last = state.kept.at(-1);
    if (last === undefined || last.step !== step - 1 || last.step < state.finalBelow) return;
    const entry: LedgerEntry = { ...last, stateHash };
    state.kept[state.kept.length - 1] = entry;
    state.finalBelow = step;
    this.act({ kind: "final", entry });
    if (this.reports()) this.send({ kind: "final", entries: [entry] });
  }

  /** What a dead reporter or coordinator may have taken with it is sent again. */
  private reportUnrecorded(): void {
    const { state } = this;
    const unrecorded = state.kept.filter((entry) => entry.step >= state.recorded && entry.step < state.finalBelow);
    if (this.reports() && unrecorded.length > 0) this.send({ kind: "final", entries: unrecorded });
  }

  /** The first level member of a view reports for all. */
  private reports(): boolean {
    const first = this.state.view?.members.find((member) => member.entry === "level");
    return first?.incarnation === this.state.self;
  }

  private block(corruptFrom: Member["incarnation"] | null): void {
    const { state } = this;
    const step = state.step!;
    if (step.blocked) return;
    step.blocked = true;
    const states: PeerState[] = [...step.trailers.values()].map((trailer) => ({
      incarnation: trailer.from,
      level: trailer.level,
      lineage: trailer.lineage,
      stateHash: trailer.stateHash,
    }));
    state.complaint = { kind: "mismatch", view: state.view!.id, step: step.step, states, corruptFrom };
    this.send(state.complaint);
  }

  private repeatStatus(): void {
    const { state } = this;
    if (!this.guarded("say-again")) return;
    this.reportUnrecorded();
    if (state.complaint !== null) this.send(state.complaint);
    if (state.leaving !== null) this.send({ kind: "leaving", reason: state.leaving });
    if (state.idle && state.view !== null) this.send({ kind: "idle", view: state.view.id, standing: this.standing() });
  }

  // ---- small helpers

  standing(): Standing {
    const { tip, whole, view, kept, idle } = this.state;
    return { tip, whole, view: view?.id ?? null, entries: idle ? kept : [] };
  }

  private closeLeft(): void {
    if (this.state.left !== null) this.act({ kind: "closeStreams", view: this.state.left });
    this.state.left = null;
  }

  private guarded(guard: Guard): boolean {
    return !this.state.without.has(guard);
  }

  private isCurrent(view: ViewId, step: number): boolean {
    if (!this.guarded("current-view-only")) return this.state.step?.step === step;
    return this.state.step?.step === step && sameView(this.state.view?.id ?? null, view);
  }

  private memberOf(view: View): Member | undefined {
    return view.members.find((member) => member.incarnation === this.state.self);
  }

  private send(message: Extract<MemberAction, { kind: "send" }>["message"]): void {
    this.act({ kind: "send", message });
  }

  private act(action: MemberAction): void {
    this.actions.push(action);
  }
}

/** Where the worker stands, for `hello` and `ready`. */
export function standingOf(state: MemberState): Standing {
  return new Advance(state, []).standing();
}
