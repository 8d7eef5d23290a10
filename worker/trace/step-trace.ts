import { BLOCK, type Layout } from "../../shared/model/layout.ts";
import { type Incarnation, sameView, type ViewId, viewName } from "../../shared/protocol/view.ts";
import { machineMillis } from "../../shared/trace/machine-clock.ts";
import type { Span, SpanTrack } from "../../shared/trace/part.ts";
import type { ChunkHeader } from "../exchange/chunk.ts";
import type { MemberAction, MemberEvent } from "../member/state.ts";
import type { TraceRecorder } from "./recorder.ts";

/** JSON has no NaN. */
const figure = (value: number): number | string => (Number.isFinite(value) ? value : String(value));

/** The step under way, in machine milliseconds. */
interface OpenStep {
  readonly step: number;
  readonly view: ViewId;
  readonly began: number;
  /** When the own gradients, or the pull of the state, were done. */
  done: number | null;
  committed: number | null;
  /** By peer: when the last that it owed in this step came. */
  readonly arrived: Map<Incarnation, number>;
}

/** What the exchange tells of its chunks; `from` is a `now()` of before. */
export interface ExchangeTrace {
  now(): number;
  /** Something of this step came; returns `now()`. */
  arrived(peer: Incarnation, step: number): number;
  /** The stream has taken it. */
  sent(peer: Incarnation, chunk: Pick<ChunkHeader, Told>, bytes: number, from: number): void;
  /** It is checked, stored, and what it completes is summed. */
  received(peer: Incarnation, chunk: Pick<ChunkHeader, Told>, bytes: number, from: number): void;
}

type Told = "kind" | "step" | "firstBlock" | "blocks" | "nodeFrom" | "nodeTo";

/**
 * Watches the membership machine, the exchange and the compute thread of a worker and keeps the spans of its newest
 * steps. It decides nothing. A step's phases are compute, exchange and update, from its beginning to its end without gaps.
 */
export class StepTrace implements ExchangeTrace {
  readonly recorder: TraceRecorder;
  readonly now: () => number;
  readonly #buckets: Layout["buckets"];
  #step: OpenStep | null = null;
  #view: ViewId | null = null;
  #closed: number | null = null;
  #pulling: number | null = null;
  /** By peer: where its last span on a track ends, since those of one track must not overlap. */
  readonly #sentUntil = new Map<Incarnation, number>();

  /** @param recorder keeps the spans */
  constructor(recorder: TraceRecorder, layout: Pick<Layout, "buckets">, now: () => number = machineMillis) {
    this.recorder = recorder;
    this.#buckets = layout.buckets;
    this.now = now;
  }

  saw(event: MemberEvent): void {
    const now = this.now();
    const step = this.#step;
    if (event.kind === "pulled" && this.#pulling !== null) {
      this.#add("view", "pull state", this.#pulling, now, event.step);
      this.#pulling = null;
      if (step !== null) step.done ??= now;
    }
    if (step === null) return;
    if (event.kind === "computed" && event.step === step.step) step.done ??= now;
    if (event.kind === "trailer" && event.trailer.step === step.step) step.arrived.set(event.trailer.from, now);
    if (event.kind === "updated" && event.step === step.step && step.committed !== null) {
      this.#add("step", "update", step.committed, now, step.step);
      const { loss, gradientNorm, applied } = event.outcome;
      const outcome = applied ? {} : { applied: "no" };
      this.#end(step, now, { loss: figure(loss), gradientNorm: figure(gradientNorm), ...outcome });
    }
  }

  does(action: MemberAction): void {
    const now = this.now();
    const step = this.#step;
    switch (action.kind) {
      case "begin":
        if (step !== null) this.#end(step, now, { outcome: "given up" });
        this.recorder.begin();
        this.#enter(action.view.id, action.step, now);
        return;
      case "pull":
        this.#pulling = now;
        return;
      case "commit":
        if (step !== null) this.#commit(step, now);
        return;
      case "close":
        this.#closed ??= now;
        // An update that runs is finished, and so is its step.
        if (step !== null && step.committed === null) this.#end(step, now, { outcome: "given up" });
        return;
      case "hash":
        this.#add("view", "rests", now, now, action.step);
        return;
    }
  }

  sent(peer: Incarnation, chunk: Pick<ChunkHeader, Told>, bytes: number, from: number): void {
    const now = this.now();
    // Two messages may be on their way at once: one is seen from where the one before it was taken.
    const begin = Math.min(now, Math.max(from, this.#sentUntil.get(peer) ?? 0));
    this.#sentUntil.set(peer, now);
    this.#chunk("sent", peer, chunk, bytes, begin, now);
  }

  arrived(peer: Incarnation, step: number): number {
    const now = this.now();
    if (step === this.#step?.step) this.#step.arrived.set(peer, now);
    return now;
  }

  received(peer: Incarnation, chunk: Pick<ChunkHeader, Told>, bytes: number, from: number): void {
    this.#chunk("received", peer, chunk, bytes, from, this.now());
  }

  /** What the compute thread has noted. */
  thread(spans: readonly Span[]): void {
    for (const span of spans) this.recorder.add(span);
  }

  #enter(view: ViewId, step: number, now: number): void {
    if (!sameView(this.#view, view)) {
      // Between two views nobody computes; a planned one takes effect between two steps.
      this.#add("view", `view ${viewName(view)}`, this.#closed ?? now, now, step);
      this.#sentUntil.clear();
    }
    this.#closed = null;
    this.#view = view;
    this.#step = { step, view, began: now, done: null, committed: null, arrived: new Map() };
  }

  #commit(step: OpenStep, now: number): void {
    const done = step.done ?? now;
    step.committed = now;
    this.#add("step", "compute", step.began, done, step.step);
    this.#add("step", "exchange", done, now, step.step);
    for (const [peer, at] of step.arrived) {
      if (at > done) this.#add("wait", "waits", done, at, step.step, {}, peer);
    }
  }

  #end({ step, view, began }: OpenStep, now: number, detail: Span["detail"]): void {
    this.#add("step", `step ${step}`, began, now, step, { view: viewName(view), ...detail });
    this.#step = null;
  }

  #chunk(
    track: "sent" | "received",
    peer: Incarnation,
    { kind, step, firstBlock, blocks, nodeFrom, nodeTo }: Pick<ChunkHeader, Told>,
    bytes: number,
    from: number,
    to: number,
  ): void {
    const at = firstBlock * BLOCK;
    const bucket = this.#buckets.findIndex((one) => one.from <= at && at < one.to);
    const node = kind === "partial" ? { shards: `${nodeFrom}-${nodeTo - 1}` } : {};
    this.#add(track, `bucket ${bucket} ${kind}`, from, to, step, { firstBlock, blocks, bytes, ...node }, peer);
  }

  #add(
    track: SpanTrack,
    name: string,
    from: number,
    to: number,
    step: number,
    detail: Span["detail"] = {},
    peer: Incarnation | null = null,
  ): void {
    this.recorder.add({ track, peer, name, from, to, step, detail });
  }
}
