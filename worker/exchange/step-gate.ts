/** What to do with data of a step of a view that just arrived. */
export type Verdict =
  /** It may be written. */
  | "take"
  /** It comes too early: its vector is in use. Hold the stream until `begin` or `close` frees it. */
  | "wait"
  /** Of a step or view that is over: drop it. */
  | "stale"
  /** No member of a sound view can be there: drop it and count it. */
  | "refuse";

interface Claim {
  readonly view: string;
  readonly step: number;
}

/**
 * Who may write into the two reduced vectors (even and odd steps), which all views of a worker share. Exactly one (view,
 * step) may write into each at a time: the step under way, and the one after it, since peers are at most one step ahead.
 * Data of an abandoned view must never reach a vector that a newer view fills or an update reads. Pure.
 */
export class StepGate {
  private under: Claim | null = null;
  private readonly left = new Set<string>();
  private readonly claims: [Claim | null, Claim | null] = [null, null];
  private readonly onClaim: (view: string, step: number) => void;

  /** @param onClaim a vector passes to this step of this view: what others meant to read from it is void */
  constructor(onClaim: (view: string, step: number) => void) {
    this.onClaim = onClaim;
  }

  /** The step under way; null before the first and after its view was closed. */
  get current(): { readonly view: string; readonly step: number } | null {
    return this.under;
  }

  isCurrent(view: string, step: number): boolean {
    return this.under?.view === view && this.under.step === step;
  }

  verdict(view: string, step: number): Verdict {
    const { under } = this;
    if (this.left.has(view)) return "stale";
    if (under?.view === view) {
      if (step < under.step) return "stale";
      if (step > under.step + 1) return "refuse";
    } else if (under !== null && step !== under.step + 1) return "wait";
    return this.claim(view, step);
  }

  /** A step begins here. Returns the views whose received data are void: they had been ahead at another step. */
  begin(view: string, step: number): string[] {
    if (this.under !== null && this.under.view !== view) this.left.add(this.under.view);
    this.left.delete(view);
    this.under = { view, step };
    const voided = new Set<string>();
    this.claims.forEach((claim, parity) => {
      if (claim === null) return;
      const ours = claim.view === view && (claim.step === step || claim.step === step + 1);
      const ahead = claim.view !== view && claim.step === step + 1 && !this.left.has(claim.view);
      if (ours || ahead) return;
      this.claims[parity] = null;
      if (claim.view !== view && !this.left.has(claim.view)) voided.add(claim.view);
    });
    this.claim(view, step);
    return [...voided];
  }

  close(view: string): void {
    this.left.delete(view);
    if (this.under?.view === view) this.under = null;
    this.claims.forEach((claim, parity) => {
      if (claim?.view === view) this.claims[parity] = null;
    });
  }

  private claim(view: string, step: number): Verdict {
    const parity = step % 2;
    const holder = this.claims[parity] ?? null;
    if (holder?.view === view && holder.step === step) return "take";
    if (holder !== null && (holder.view !== view || this.under === null)) {
      return holder.view === view ? (step < holder.step ? "stale" : "refuse") : "wait";
    }
    if (holder !== null && step < holder.step) return "stale";
    this.claims[parity] = { view, step };
    this.onClaim(view, step);
    return "take";
  }
}
