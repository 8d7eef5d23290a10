import type { CoordinatorMessage, WorkerMessage } from "../../shared/protocol/messages.ts";
import type { ShardRecord, Trailer } from "../../shared/protocol/trailer.ts";
import {
  compareViews,
  type Incarnation,
  ownersOf,
  sameView,
  type Tip,
  type View,
  type ViewId,
  viewName,
} from "../../shared/protocol/view.ts";
import { advance } from "../../worker/member/member.ts";
import { createMember, type MemberAction, type MemberEvent, type MemberState } from "../../worker/member/state.ts";
import { SimHeld } from "./held.ts";
import { checkFinal, checkRelease, checkState, Violation } from "./invariants.ts";
import type { World } from "./world.ts";

/** What the exchange of one view has received at one member. */
interface Inbox {
  readonly view: View;
  readonly partials: Map<number, Map<Incarnation, string>>;
  readonly segments: Map<number, Map<Incarnation, string>>;
}

/**
 * A worker of the simulation: the real membership machine around a state that is nothing but the digest of its history,
 * with an exchange that delivers partials, reduced segments and trailers late, twice and out of order.
 */
export class SimWorker {
  readonly incarnation: Incarnation;
  readonly world: World;
  readonly member: MemberState;
  readonly held: SimHeld;
  /** Digest of what the weights went through; equals the canonical one unless something broke. */
  private weights: string;
  contentStep: number;
  /** An update is half done. */
  private half = false;
  alive = true;
  frozen = false;
  readonly thawQueue: (() => void)[] = [];
  link: number | null = null;
  dials = 0;
  readonly views = new Map<string, Inbox>();
  /** Opened on (view, step), as the commit word of the process is. */
  word: { view: ViewId; step: number; state: "open" | "committed" | "closed" } | null = null;
  wantSnapshot = false;
  snapshot: { tip: Tip; content: string } | null = null;
  committedSteps = 0;
  /** How many times longer than usual its shards take. */
  slowness = 1;
  /** Its compute thread hangs in a kernel or in an update for good, while its main thread goes on. */
  stuck = false;
  /** A bit flips while the next update runs, where only the peers' hashes can find it. */
  flipInUpdate = false;

  constructor(world: World, incarnation: Incarnation) {
    this.world = world;
    this.incarnation = incarnation;
    this.weights = world.line.content(0);
    this.contentStep = 0;
    this.member = createMember(incarnation, world.totalSteps, world.line.root, world.without);
    this.held = new SimHeld(this);
  }

  get content(): string {
    if (this.half)
      throw new Violation("no-half-step", `${this.incarnation} was read in the update of step ${this.word?.step}`);
    return this.weights;
  }
  set content(weights: string) {
    this.weights = weights;
    this.half = false;
  }

  /** Runs now, or when the worker thaws; never after its death. */
  private whenAwake(run: () => void): void {
    if (!this.alive) return;
    if (this.frozen) this.thawQueue.push(run);
    else run();
  }

  later(typical: number, run: () => void): void {
    this.world.clock.after(this.world.random.delay(typical), () => this.whenAwake(run));
  }

  /** From the exchange to the machine: mostly at once, sometimes through a queue in which it is overtaken. */
  private hop(run: () => void): void {
    if (this.world.random.next() < 0.1) this.later(10, run);
    else run();
  }

  dispatch(event: MemberEvent): void {
    if (!this.alive) return;
    for (const action of advance(this.member, event)) this.perform(action);
  }

  receive(message: CoordinatorMessage): void {
    this.whenAwake(() => {
      if (message.kind === "snapshot") {
        this.wantSnapshot = true;
        if (this.member.idle) this.takeSnapshot();
        return;
      }
      if (message.kind === "discard") this.snapshot = null;
      this.dispatch({ kind: "coordinator", message });
      if (message.kind === "welcome") this.dispatch({ kind: "reconnected" });
      this.held.receive(message);
    });
  }

  /** Streams stay open for the present view, the one before it until its first commit, and the planned one: no others. */
  private checkOpenViews(): void {
    const { view, left, plan } = this.member;
    const wanted = [view?.id, left, plan?.id].map((id) => (id == null ? "" : viewName(id)));
    const forgotten = [...this.views.keys()].filter((key) => !wanted.includes(key));
    if (forgotten.length === 0) return;
    throw new Violation("no-forgotten-views", `${this.incarnation} has left view ${forgotten.join(", ")} open`);
  }

  private perform(action: MemberAction): void {
    const { world } = this;
    switch (action.kind) {
      case "send":
        return this.send(action.message);
      case "openStreams":
        this.views.set(viewName(action.view.id), { view: action.view, partials: new Map(), segments: new Map() });
        world.contents.check(action.view);
        return;
      case "closeStreams":
        this.views.delete(viewName(action.view));
        return;
      case "begin":
        if (
          this.member.promised !== null &&
          compareViews(action.view.id, this.member.promised) < 0 &&
          action.view.predecessor === null
        ) {
          throw new Violation(
            "promises-kept",
            `${this.incarnation} entered view ${viewName(action.view.id)} after promising a higher one`,
          );
        }
        if (this.promisedSince !== null && compareViews(action.view.id, this.promisedSince) < 0) {
          throw new Violation(
            "promises-kept",
            `${this.incarnation} ran view ${viewName(action.view.id)} after promising a higher one`,
          );
        }
        this.checkOpenViews();
        this.word = { view: action.view.id, step: action.step, state: "open" };
        world.broadcast(this, action.view, (peer) =>
          peer.dispatch({ kind: "active", view: action.view.id, step: action.step }),
        );
        return;
      case "compute":
        return this.compute(action.view, action.step);
      case "pull":
        return this.pull(action.view, action.step);
      case "publishTrailer":
        return this.publishTrailer(action.trailer);
      case "commit":
        this.held.state.before(action.step, () => this.commit(action.view, action.step, action.parent));
        return;
      case "close":
        return this.close();
      case "hash":
        this.later(1, () => {
          this.dispatch({ kind: "hashed", step: action.step, stateHash: world.line.hash(this.content) });
          if (this.wantSnapshot && this.member.idle) this.takeSnapshot();
        });
        return;
      case "restore":
        this.held.state.replaced();
        this.later(20, () => {
          const initial = { tip: world.line.root, content: world.line.content(0) };
          const stored = [initial, ...world.checkpoints].find((c) => c.tip.step === action.tip.step);
          if (stored === undefined || this.member.step !== null) return;
          this.content = stored.content;
          this.contentStep = action.tip.step;
          world.tainted.delete(this.incarnation);
          this.held.state.reached(stored.tip);
          this.dispatch({ kind: "restored", tip: stored.tip });
        });
        return;
      case "final":
        return checkFinal(action.entry, world);
      case "stalled":
        return this.world.note(() => `${this.incarnation} waits for records`);
      case "exit":
        checkRelease(this, world);
        world.note(() => `released ${this.incarnation}`);
        this.alive = false;
        return;
      default:
        return action satisfies never;
    }
  }

  get shardMillis(): number {
    return this.world.shardMillis * this.slowness;
  }

  private compute(view: View, step: number): void {
    const me = view.members.find((m) => m.incarnation === this.incarnation)!;
    const count = me.shards.to - me.shards.from;
    this.later(1 + this.shardMillis * count, () => {
      if (this.stuck) return;
      if (this.word?.state !== "open" || this.word.step !== step || !sameView(this.word.view, view.id)) return;
      const partial = this.world.line.gradient(this.content, step);
      if (count > 0) this.sendPartial(view, step, partial);
      const shards: ShardRecord[] = [];
      for (let shard = me.shards.from; shard < me.shards.to; shard++) {
        shards.push({ shard, idsDigest: `${step}/${shard}`, samples: 2, correct: 1, gradientDigest: partial });
      }
      this.dispatch({ kind: "computed", view: view.id, step, shards, stateHash: this.world.line.hash(this.content) });
    });
  }

  private sendPartial(view: View, step: number, partial: string): void {
    const deliver = (peer: SimWorker) => {
      const inbox = peer.views.get(viewName(view.id));
      if (inbox === undefined) return;
      const step_ = inbox.partials.get(step) ?? new Map<Incarnation, string>();
      inbox.partials.set(step, step_);
      step_.set(this.incarnation, partial);
      peer.reduceIfComplete(view, step);
    };
    this.world.broadcast(this, view, deliver);
    deliver(this);
  }

  private reduceIfComplete(view: View, step: number): void {
    const owners = ownersOf(view);
    if (!owners.some((m) => m.incarnation === this.incarnation)) return;
    const inbox = this.views.get(viewName(view.id));
    const partials = inbox?.partials.get(step);
    if (inbox === undefined || partials === undefined || !owners.every((m) => partials.has(m.incarnation))) return;
    const distinct = [...new Set(partials.values())];
    const segment = distinct.length === 1 ? distinct[0]! : `garbage(${distinct.join("+")})`;
    const deliver = (peer: SimWorker) => {
      const theirs = peer.views.get(viewName(view.id));
      if (theirs === undefined) return;
      const segments = theirs.segments.get(step) ?? new Map<Incarnation, string>();
      theirs.segments.set(step, segments);
      segments.set(this.incarnation, segment);
      if (owners.every((m) => segments.has(m.incarnation))) {
        peer.hop(() => peer.dispatch({ kind: "reduced", view: view.id, step }));
      }
    };
    this.world.broadcast(this, view, deliver);
    deliver(this);
  }

  private publishTrailer(trailer: Trailer): void {
    const view = this.views.get(viewName(trailer.view))?.view;
    if (view === undefined) return;
    this.world.broadcast(this, view, (peer) => peer.hop(() => peer.dispatch({ kind: "trailer", trailer })));
  }

  private commit(viewId: ViewId, step: number, parent: string): void {
    // The compute thread may find the word closed by the main thread in between.
    this.later(0.5, () => {
      if (
        this.word === null ||
        this.word.state !== "open" ||
        this.word.step !== step ||
        !sameView(this.word.view, viewId)
      )
        return;
      this.word.state = "committed";
      this.half = true;
      this.later(3, () => {
        if (this.stuck) return;
        const inbox = this.views.get(viewName(viewId));
        const segments = [...new Set(inbox?.segments.get(step)?.values() ?? [])];
        const reduced = segments.length === 1 ? segments[0]! : `garbage(${segments.join("+")})`;
        this.content = this.world.line.apply(this.weights, reduced);
        if (this.flipInUpdate && this.hasWitness()) {
          this.flipInUpdate = false;
          this.content = `${this.content}!`;
          this.world.tainted.add(this.incarnation);
          this.world.note(() => `LATE FLIP ${this.incarnation} at ${step}`);
        }
        this.contentStep = step + 1;
        this.committedSteps += 1;
        inbox?.segments.delete(step - 1);
        inbox?.partials.delete(step - 1);
        this.word!.state = "closed";
        const lineage = this.world.line.nextLineage(parent, step, reduced);
        const stateHash = this.world.line.hash(this.content);
        this.held.state.reached({ step: step + 1, lineage, stateHash });
        this.dispatch({
          kind: "updated",
          view: viewId,
          step,
          outcome: { lineage, stateHash, loss: 1, gradientNorm: 1, applied: true },
        });
        checkState(this, this.world);
        if (this.wantSnapshot) this.takeSnapshot();
        this.afterUpdate?.();
      });
    });
  }

  /** Another member holds the same state, which alone can tell that this one's is wrong. */
  private hasWitness(): boolean {
    const { view } = this.member;
    const peers = view?.members.filter(({ incarnation }) => incarnation !== this.incarnation) ?? [];
    return peers.some(({ incarnation }) => this.world.workers.get(incarnation)?.member.step?.level === true);
  }

  private afterUpdate: (() => void) | null = null;

  private close(): void {
    this.held.state.closed();
    const answer = () =>
      this.later(1, () => this.dispatch({ kind: "closed", stateHash: this.world.line.hash(this.content) }));
    if (this.word?.state === "committed") {
      this.afterUpdate = () => {
        this.afterUpdate = null;
        answer();
      };
      return;
    }
    if (this.word !== null) this.word.state = "closed";
    answer();
  }

  private pull(view: View, step: number): void {
    this.held.state.replaced();
    const started = this.world.clock.now;
    const attempt = () =>
      this.later(30, () => {
        if (this.member.step?.step !== step || !sameView(this.member.view?.id ?? null, view.id)) return;
        const source = view.members
          .filter((m) => m.entry === "level")
          .map((m) => this.world.workers.get(m.incarnation))
          .find(
            (w) =>
              w?.alive &&
              !w.frozen &&
              w.readable &&
              this.world.reachable(this.incarnation, w.incarnation) &&
              w.contentStep === step,
          );
        if (source !== undefined) {
          this.content = source.content;
          this.contentStep = step;
          return this.dispatch({
            kind: "pulled",
            view: view.id,
            step,
            stateHash: this.world.line.hash(this.content),
            entries: [...source.member.kept],
          });
        }
        if (this.world.clock.now - started > 2000) {
          return this.dispatch({ kind: "pulled", view: view.id, step, stateHash: null, entries: [] });
        }
        attempt();
      });
    attempt();
  }

  /** Between updates: others may pull the state. */
  get readable(): boolean {
    return this.word?.state !== "committed";
  }

  private takeSnapshot(): void {
    this.wantSnapshot = false;
    const tip = { ...this.member.tip, stateHash: this.world.line.hash(this.content) };
    this.snapshot = { tip, content: this.content };
    this.send({ kind: "snapshot", tip, bytes: 1 });
  }

  /** The highest id that an answer of this worker promised. */
  promisedSince: ViewId | null = null;

  send(message: WorkerMessage): void {
    if (
      message.kind === "answer" &&
      (this.promisedSince === null || compareViews(message.id, this.promisedSince) > 0)
    ) {
      this.promisedSince = message.id;
    }
    this.world.toCoordinator(this, message);
  }
}
