import { createHash } from "node:crypto";
import type { CoordinatorMessage, WorkerMessage } from "../../shared/protocol/messages.ts";
import type { Trailer } from "../../shared/protocol/trailer.ts";
import { type Incarnation, ownersOf, type Tip, type View, type ViewId, viewName } from "../../shared/protocol/view.ts";
import { advance, standingOf } from "../../worker/member/member.ts";
import { createMember, type MemberAction, type MemberEvent, type MemberState } from "../../worker/member/state.ts";
import type { Cluster } from "./cluster.ts";
import type { Reign } from "./life.ts";
import { helloOf } from "./support.ts";

/** Virtual milliseconds. */
const COMPUTE = 20;
const UPDATE = 2;
const NETWORK = 1;

/** The state after one more step: nothing but a function of the state before and the step. */
export function nextImage(image: Buffer, step: number): Buffer {
  const seed = createHash("sha256").update(image).update(String(step)).digest();
  return Buffer.concat(Array.from({ length: image.length / seed.length }, () => seed));
}

/**
 * The real membership machine of a worker around a state of two blocks, with an exchange that loses nothing: what is tried
 * here is the coordinator.
 */
export class SmallWorker {
  readonly incarnation: Incarnation;
  readonly member: MemberState;
  image: Buffer;
  link: Reign | null = null;
  alive = true;
  snapshot: { readonly tip: Tip; readonly image: Buffer } | null = null;
  readonly #cluster: Cluster;
  readonly #views = new Map<string, View>();
  readonly #partials = new Map<string, Set<Incarnation>>();
  #word: { readonly view: ViewId; readonly step: number; state: "open" | "committed" | "closed" } | null = null;
  #afterUpdate: (() => void) | null = null;
  #wantSnapshot = false;
  #said = false;

  constructor(cluster: Cluster, incarnation: Incarnation) {
    this.#cluster = cluster;
    this.incarnation = incarnation;
    this.image = cluster.line.images[0]!;
    this.member = createMember(incarnation, cluster.totalSteps, cluster.line.tips[0]!);
  }

  later(millis: number, run: () => void): void {
    this.#cluster.clock.after(millis, () => this.alive && run());
  }

  /** Dials whoever rules, again and again while nobody does. */
  dial(): void {
    if (this.link !== null || !this.alive) return;
    const { reign } = this.#cluster;
    if (reign === null) return this.later(100, () => this.dial());
    this.link = reign;
    reign.hear(() => reign.ruler.hello(this.#hello()));
  }

  hangUp(): void {
    const { link } = this;
    this.link = null;
    if (link !== null) link.hear(() => link.ruler.feed({ kind: "disconnected", incarnation: this.incarnation }));
    this.later(100, () => this.dial());
  }

  leave(): void {
    this.#dispatch({ kind: "leave", reason: "asked to leave" });
  }

  receive(message: CoordinatorMessage): void {
    if (message.kind === "snapshot") {
      this.#wantSnapshot = true;
      if (this.member.idle) this.#takeSnapshot();
    } else if (message.kind === "discard") this.snapshot = null;
    if (message.kind !== "welcome") return this.#dispatch({ kind: "coordinator", message });
    this.#said = true;
    const { facts, line } = this.#cluster;
    this.#send({ kind: "ready", fingerprint: ["f"], root: line.tips[0]!.lineage, standing: this.#standing(), facts });
    this.#dispatch({ kind: "coordinator", message });
    this.#dispatch({ kind: "reconnected" });
  }

  heartbeat(): void {
    const { view, step, tip, whole, idle } = this.member;
    const progress = {
      ...{ view: view?.id ?? null, step: tip.step, stepMillis: 0, level: step?.level ?? whole, shardMillis: COMPUTE },
      ...{ images: 0, residentBytes: 0, peers: [], phase: idle ? ("idle" as const) : ("compute" as const) },
    };
    this.#send({ kind: "heartbeat", progress });
  }

  #standing = () => standingOf(this.member);

  #hello() {
    const { incarnation, member } = this;
    const standing = this.#said ? this.#standing() : null;
    return { ...helloOf(incarnation, incarnation.slice(-1)), promised: member.promised, standing };
  }

  #dispatch(event: MemberEvent): void {
    if (!this.alive) return;
    for (const action of advance(this.member, event)) this.#perform(action);
  }

  #perform(action: MemberAction): void {
    switch (action.kind) {
      case "send":
        return this.#send(action.message);
      case "openStreams":
        this.#views.set(viewName(action.view.id), action.view);
        return;
      case "closeStreams":
        this.#views.delete(viewName(action.view));
        return;
      case "begin":
        this.#word = { view: action.view.id, step: action.step, state: "open" };
        return this.#tell(action.view, (peer) =>
          peer.#dispatch({ kind: "active", view: action.view.id, step: action.step }),
        );
      case "compute":
        return this.#compute(action.view, action.step);
      case "pull":
        return this.#pull(action.view, action.step);
      case "publishTrailer":
        return this.#publish(action.trailer);
      case "commit":
        return this.#commit(action.view, action.step, action.parent);
      case "close":
        if (this.#word?.state === "committed") this.#afterUpdate = () => this.#closed();
        else this.#closed();
        return;
      case "hash":
        return this.later(0, () => {
          this.#dispatch({ kind: "hashed", step: action.step, stateHash: this.#cluster.hash(this.image) });
          if (this.#wantSnapshot && this.member.idle) this.#takeSnapshot();
        });
      case "restore":
        return void this.#restore(action.tip);
      case "final":
      case "stalled":
        return;
      case "exit":
        this.alive = false;
        return;
      default:
        return action satisfies never;
    }
  }

  #closed(): void {
    if (this.#word !== null) this.#word.state = "closed";
    this.later(0, () => this.#dispatch({ kind: "closed", stateHash: this.#cluster.hash(this.image) }));
  }

  #compute(view: View, step: number): void {
    this.later(COMPUTE, () => {
      if (this.#word?.state !== "open" || this.#word.step !== step) return;
      const { from, to } = view.members.find((m) => m.incarnation === this.incarnation)!.shards;
      const count = Math.max(0, to - from);
      const shards = Array.from({ length: count }, (_, i) => this.#cluster.shardOf(step, from + i));
      const partial = (peer: SmallWorker) => peer.#onPartial(view, step, this.incarnation);
      if (count > 0) {
        this.#tell(view, partial);
        partial(this);
      }
      const stateHash = this.#cluster.hash(this.image);
      this.#dispatch({ kind: "computed", view: view.id, step, shards, stateHash });
    });
  }

  #onPartial(view: View, step: number, from: Incarnation): void {
    const key = `${viewName(view.id)}/${step}`;
    const partials = this.#partials.get(key) ?? new Set();
    this.#partials.set(key, partials.add(from));
    if (partials.size === ownersOf(view).length) this.#dispatch({ kind: "reduced", view: view.id, step });
  }

  #publish(trailer: Trailer): void {
    const view = this.#views.get(viewName(trailer.view));
    if (view !== undefined) this.#tell(view, (peer) => peer.#dispatch({ kind: "trailer", trailer }));
  }

  #commit(view: ViewId, step: number, parent: string): void {
    const word = this.#word;
    if (word?.state !== "open" || word.step !== step) return;
    word.state = "committed";
    this.later(UPDATE, () => {
      this.image = nextImage(this.image, step);
      word.state = "closed";
      const lineage = this.#cluster.lineageAfter(parent, step);
      const stateHash = this.#cluster.hash(this.image);
      if (this.#wantSnapshot) this.#takeSnapshot({ step: step + 1, lineage, stateHash });
      const outcome = { lineage, stateHash, loss: 1 / (step + 1), gradientNorm: 1, applied: true };
      this.#dispatch({ kind: "updated", view, step, outcome });
      const after = this.#afterUpdate;
      this.#afterUpdate = null;
      after?.();
      this.#cluster.stepped(this);
    });
  }

  #pull(view: View, step: number): void {
    this.later(5, () => {
      if (this.member.step?.step !== step) return;
      const level = view.members
        .filter((m) => m.entry === "level")
        .map((m) => this.#cluster.workers.get(m.incarnation)!);
      const source = level.find((worker) => worker.alive && worker.member.tip.step === step && worker.member.whole);
      if (source === undefined) return this.#pull(view, step);
      this.image = source.image;
      const stateHash = this.#cluster.hash(this.image);
      this.#dispatch({ kind: "pulled", view: view.id, step, stateHash, entries: [...source.member.kept] });
    });
  }

  async #restore(tip: Tip): Promise<void> {
    const { link } = this;
    const image = tip.step === 0 ? this.#cluster.line.images[0]! : await link?.imageOf(tip.step);
    if (image == null || this.member.step !== null)
      return this.#send({ kind: "failed", code: "LS_CHECKPOINT", message: "" });
    this.image = image;
    const stateHash = this.#cluster.hash(image);
    this.#dispatch({ kind: "restored", tip: tip.step === 0 ? this.#cluster.line.tips[0]! : { ...tip, stateHash } });
  }

  #takeSnapshot(tip: Tip = { ...this.member.tip, stateHash: this.#cluster.hash(this.image) }): void {
    this.#wantSnapshot = false;
    this.snapshot = { tip, image: this.image };
    this.#send({ kind: "snapshot", tip, bytes: this.image.length });
  }

  #send(message: WorkerMessage): void {
    const { link } = this;
    this.later(NETWORK, () => {
      if (this.link === link) link?.hear(() => link.ruler.message(this.incarnation, message));
    });
  }

  /** To every other member of a view, once it has the view open too. */
  #tell(view: View, deliver: (peer: SmallWorker) => void): void {
    for (const { incarnation } of view.members) {
      const peer = this.#cluster.workers.get(incarnation)!;
      if (peer === this) continue;
      const carry = () => {
        if (!peer.alive || !this.#views.has(viewName(view.id))) return;
        if (peer.#views.has(viewName(view.id))) deliver(peer);
        else this.later(10, carry);
      };
      this.later(NETWORK, carry);
    }
  }
}
