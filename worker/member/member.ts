import type { CoordinatorMessage, Standing } from "../../shared/protocol/messages.ts";
import { compareViews, sameView, type Tip, type View, type ViewId } from "../../shared/protocol/view.ts";
import { MemberVoice } from "./member-voice.ts";
import type { MemberAction, MemberEvent, MemberState } from "./state.ts";
import { StepTaker } from "./step-taker.ts";

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

/** All events, and what the coordinator says; steps and words are in the classes below it. */
class Advance extends StepTaker {
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
      case "validate":
      case "validationDone":
      case "inject":
      case "access":
      case "dial":
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
}

/** Where the worker stands, for `hello` and `ready`. */
export function standingOf(state: MemberState): Standing {
  return new MemberVoice(state, []).standing();
}
