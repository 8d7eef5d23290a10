import { setTimeout as sleep } from "node:timers/promises";
import { sentenceOf } from "../shared/errors.ts";
import type { Tip } from "../shared/protocol/view.ts";
import type { Trust } from "../shared/security/trust.ts";
import { type Arithmetic, hex64 } from "./arithmetic/arithmetic.ts";
import type { ComputeReady } from "./compute/compute.ts";
import type { ComputeRequest } from "./compute/messages.ts";
import { type PullResult, pullState } from "./exchange/pull-state.ts";
import type { StateSource } from "./exchange/serve-state.ts";
import type { MemberState } from "./member/state.ts";
import type { Control } from "./memory/control.ts";

export interface LiveStateParts {
  readonly run: string;
  readonly ready: Pick<ComputeReady, "plan" | "memory">;
  readonly arithmetic: Arithmetic;
  readonly control: Pick<Control, "commitWord">;
  readonly member: MemberState;
  readonly trust: Trust | null;
  /** How long a pull may take, in milliseconds. */
  readonly levelTimeout: number;
  post(request: ComputeRequest): void;
  /** The state image of a recorded checkpoint. @throws LockstepError LS_CHECKPOINT where it cannot be had whole */
  fetchCheckpoint(tip: Tip, bytes: number): Promise<Uint8Array>;
  restored(tip: Tip): void;
  restoreFailed(message: string): void;
}

const PULL_PAUSE_MILLIS = 20;

/** The worker's own state in shared memory: its hash, the step at which it rests, and how another one takes its place. */
export class LiveState {
  readonly #parts: LiveStateParts;
  #pulling: AbortController | null = null;
  /** Counts the orders to restore: only the newest is carried out. */
  #restores = 0;

  constructor(parts: LiveStateParts) {
    this.#parts = parts;
  }

  hash(): string {
    const { arithmetic, ready } = this.#parts;
    const { state } = ready.plan;
    arithmetic.blockHashes(state.address, state.floats, state.mainTable);
    return hex64(arithmetic.hashTable(state.mainTable, state.entries));
  }

  /** What a server hands out of it and of the snapshot, which is at this step. */
  source(snapshotStep: () => number | null, heldStep: () => number | null): StateSource {
    const { arithmetic, ready } = this.#parts;
    const { state, snapshot, held } = ready.plan;
    const addresses = { live: state.address, snapshot: snapshot.address, held: held?.address ?? null };
    return { arithmetic, ...addresses, bytes: state.bytes, liveStep: () => this.step(), snapshotStep, heldStep };
  }

  /** The step at which the live state is at rest; null while an update runs or the state is not whole. */
  step(): number | null {
    const { member, control } = this.#parts;
    const { phase } = control.commitWord.read();
    return member.whole && phase !== "committed" && phase !== "closing" && member.word !== "committing"
      ? member.tip.step
      : null;
  }

  /** Takes the state of members at `step`; null where it did not come whole in time. A pull under way ends. */
  async pull(step: number, peers: readonly string[]): Promise<PullResult | null> {
    const { run, ready, arithmetic, trust, levelTimeout, post } = this.#parts;
    this.abandonPull();
    const pulling = new AbortController();
    this.#pulling = pulling;
    const { signal } = pulling;
    const { address: into, bytes } = ready.plan.state;
    const deadline = setTimeout(() => pulling.abort(), levelTimeout);
    let result: PullResult | null = null;
    while (result === null && !signal.aborted) {
      result = await pullState({ run, step, peers, arithmetic, into, bytes, signal, trust });
      if (result === null) await sleep(PULL_PAUSE_MILLIS);
    }
    clearTimeout(deadline);
    if (result !== null) post({ kind: "replaced" });
    return result;
  }

  abandonPull(): void {
    this.#pulling?.abort();
  }

  /** Takes the initial state, or that of a recorded checkpoint. */
  async restore(tip: Tip): Promise<void> {
    const { ready, member, post, fetchCheckpoint, restored, restoreFailed } = this.#parts;
    this.#restores += 1;
    const order = this.#restores;
    if (tip.step === 0) return post({ kind: "initial" });
    const { state } = ready.plan;
    const image = await fetchCheckpoint(tip, state.bytes).catch((error: unknown) => sentenceOf(error));
    if (order !== this.#restores || member.step !== null) return;
    if (typeof image === "string") return restoreFailed(image);
    new Uint8Array(ready.memory.buffer).set(image, state.address);
    if (this.hash() !== tip.stateHash) return restoreFailed(`The checkpoint of step ${tip.step} has another hash.`);
    post({ kind: "replaced" });
    restored(tip);
  }
}
