import type { Guard } from "../../shared/protocol/guards.ts";
import type { PeerState, Standing } from "../../shared/protocol/messages.ts";
import type { LedgerEntry } from "../../shared/protocol/trailer.ts";
import { type Member, sameView, type View, type ViewId } from "../../shared/protocol/view.ts";
import type { MemberAction, MemberState } from "./state.ts";

/** What a member tells of itself, whatever it is doing: where it stands, which steps are final, what does not fit. */
export class MemberVoice {
  protected readonly state: MemberState;
  private readonly actions: MemberAction[];

  /** @param actions what is to be done is appended to it */
  constructor(state: MemberState, actions: MemberAction[]) {
    this.state = state;
    this.actions = actions;
  }

  /** Trailers of `step` agree: the step before it was applied by all, and this is the hash that it made. */
  protected markFinal(step: number, stateHash: string): void {
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
  protected reportUnrecorded(): void {
    const { state } = this;
    const unrecorded = state.kept.filter((entry) => entry.step >= state.recorded && entry.step < state.finalBelow);
    if (this.reports() && unrecorded.length > 0) this.send({ kind: "final", entries: unrecorded });
  }

  /** The first level member of a view reports for all. */
  protected reports(): boolean {
    const first = this.state.view?.members.find((member) => member.entry === "level");
    return first?.incarnation === this.state.self;
  }

  protected block(corruptFrom: Member["incarnation"] | null): void {
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

  protected repeatStatus(): void {
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

  protected closeLeft(): void {
    if (this.state.left !== null) this.act({ kind: "closeStreams", view: this.state.left });
    this.state.left = null;
  }

  protected guarded(guard: Guard): boolean {
    return !this.state.without.has(guard);
  }

  protected isCurrent(view: ViewId, step: number): boolean {
    if (!this.guarded("current-view-only")) return this.state.step?.step === step;
    return this.state.step?.step === step && sameView(this.state.view?.id ?? null, view);
  }

  protected memberOf(view: View): Member | undefined {
    return view.members.find((member) => member.incarnation === this.state.self);
  }

  protected send(message: Extract<MemberAction, { kind: "send" }>["message"]): void {
    this.act({ kind: "send", message });
  }

  protected act(action: MemberAction): void {
    this.actions.push(action);
  }
}
