import type { LedgerEntry, ShardRecord, Trailer } from "../../shared/protocol/trailer.ts";
import { compareViews, type Member, sameView, type Tip, type View, type ViewId } from "../../shared/protocol/view.ts";
import { MemberVoice } from "./member-voice.ts";
import { KEPT_BOUND, type StepOutcome } from "./state.ts";

/**
 * A member in the steps of its view: from the entry into one, computing or getting level, through trailers and commit to
 * the next step, the planned view, or rest.
 */
export class StepTaker extends MemberVoice {
  /** Starts `step` in `view`. A member that is not level gets level first. */
  protected enter(view: View, step: number, level: boolean, base: Tip | null): void {
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

  protected onPulled(view: ViewId, step: number, stateHash: string | null, entries: readonly LedgerEntry[]): void {
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

  protected onComputed(view: ViewId, step: number, shards: readonly ShardRecord[], stateHash: string): void {
    if (!this.isCurrent(view, step)) return;
    if (!this.verify(stateHash)) return this.block(null);
    this.publish(shards, stateHash);
  }

  /** A state that changed since its last update was hit by something else: it is not whole any more. */
  protected verify(stateHash: string): boolean {
    const { state } = this;
    if (state.tip.stateHash === "") state.tip = { ...state.tip, stateHash };
    if (!this.guarded("own-hash") || state.tip.stateHash === stateHash) return true;
    state.whole = false;
    return false;
  }

  protected publish(shards: readonly ShardRecord[], stateHash: string): void {
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

  protected onTrailer(trailer: Trailer): void {
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
  protected tryCommit(): void {
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

  protected onUpdated(viewId: ViewId, stepNumber: number, outcome: StepOutcome): void {
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
  protected moveOn(next: number, level: boolean, trailers: readonly Trailer[]): void {
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

  protected rest(): void {
    const { state } = this;
    state.step = null;
    state.word = "closed";
    state.idle = true;
    this.act({ kind: "hash", step: state.tip.step });
  }

  protected onHashed(step: number, stateHash: string): void {
    const { state } = this;
    if (!state.idle || state.view === null || state.tip.step !== step) return;
    this.verify(stateHash);
    this.send({ kind: "idle", view: state.view.id, standing: this.standing() });
  }
}
