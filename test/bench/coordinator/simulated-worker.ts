import type { CoordinatorMessage, WorkerMessage } from "../../../shared/protocol/messages.ts";
import { type Incarnation, type View, type ViewId, viewName } from "../../../shared/protocol/view.ts";
import { make } from "../../../shared/version.ts";
import { advance, standingOf } from "../../../worker/member/member.ts";
import { createMember, type MemberAction, type MemberEvent, type MemberState } from "../../../worker/member/state.ts";
import { isEvidenceDue, owedByPeers } from "../../../worker/owed.ts";
import { Session } from "../../../worker/session.ts";
import type { Fleet } from "./fleet.ts";

const UPDATE_MILLIS = 2;

/** The real membership machine and the real session of a worker, around a step that takes time and computes nothing. */
export class SimulatedWorker {
  readonly incarnation: Incarnation;
  readonly member: MemberState;
  readonly #fleet: Fleet;
  readonly #name: string;
  readonly #session: Session;
  #beat: NodeJS.Timeout | null = null;
  #open: { readonly view: ViewId; readonly step: number } | null = null;
  #begun = 0;
  alive = true;

  constructor(fleet: Fleet, index: number, coordinator: string) {
    this.#fleet = fleet;
    this.#name = `worker-${index}`;
    this.incarnation = (index + 1).toString(16).padStart(16, "0") as Incarnation;
    this.member = createMember(this.incarnation, fleet.steps, fleet.tipOf(0));
    this.#session = new Session({
      ...{ coordinator, redialFirst: 100, redialMax: 1000, silence: 30_000 },
      hello: () => this.#hello(index),
      onMessage: (message) => this.#receive(message),
      onState: () => {},
      onMalformed: (error) => {
        throw error;
      },
    });
  }

  /** As a killed process: its stream closes, and whoever dials it is refused. */
  kill(): void {
    this.alive = false;
    if (this.#beat !== null) clearInterval(this.#beat);
    this.#session.close();
  }

  dispatch(event: MemberEvent): void {
    if (!this.alive) return;
    for (const action of advance(this.member, event)) this.#perform(action);
  }

  #hello(index: number): WorkerMessage {
    return {
      ...{ kind: "hello", incarnation: this.incarnation, name: this.#name, host: `host-${index >> 3}`, pid: index + 1 },
      ...{
        version: make(),
        address: `127.0.0.1:${20_000 + index}`,
        httpAddress: `127.0.0.1:${30_000 + index}`,
        labels: {},
      },
      ...{ promised: this.member.promised, standing: this.#beat === null ? null : standingOf(this.member) },
    };
  }

  #receive(message: CoordinatorMessage): void {
    if (message.kind === "rejected") throw new Error(message.message);
    if (message.kind === "welcome") {
      const facts = {
        parameters: 1,
        weightBytes: 4096,
        stateBytes: 4096,
        sections: [{ name: "weights", floats: 1024 }],
      };
      const { lineage } = this.#fleet.tipOf(0);
      const standing = standingOf(this.member);
      this.#session.send({ kind: "ready", fingerprint: ["simulated"], root: lineage, standing, facts });
      this.#beat ??= setInterval(() => this.#heartbeat(), message.config.place.timing.heartbeatInterval);
    }
    this.dispatch({ kind: "coordinator", message });
    if (message.kind === "welcome") this.dispatch({ kind: "reconnected" });
  }

  #heartbeat(): void {
    const { view, step, tip, whole, idle } = this.member;
    const stepMillis = performance.now() - this.#begun;
    const quiet = view === null || step === null || !isEvidenceDue(stepMillis, this.#fleet.timing);
    const peers = quiet ? [] : owedByPeers(view, this.incarnation, step.trailers, this.#fleet.owed(view));
    const progress = {
      ...{ view: view?.id ?? null, step: tip.step, stepMillis, level: step?.level ?? whole, shardMillis: 100 },
      ...{ images: 1, residentBytes: 1e9, peers, phase: idle ? ("idle" as const) : ("compute" as const) },
    };
    this.#session.send({ kind: "heartbeat", progress });
  }

  #perform(action: MemberAction): void {
    const fleet = this.#fleet;
    switch (action.kind) {
      case "send":
        return this.#session.send(action.message);
      case "begin":
        this.#begun = performance.now();
        this.#open = { view: action.view.id, step: action.step };
        return fleet.began(this, action.view, action.step);
      case "compute":
        return void setTimeout(() => this.#computed(action.view, action.step), fleet.computeMillis);
      case "pull":
        return void setTimeout(() => fleet.level(this, action.view, action.step), UPDATE_MILLIS);
      case "publishTrailer":
        return fleet.publish(action.trailer);
      case "commit":
        return void setTimeout(() => this.#updated(action.view, action.step), UPDATE_MILLIS);
      case "close":
        this.#open = null;
        return queueMicrotask(() => this.dispatch({ kind: "closed", stateHash: this.member.tip.stateHash }));
      case "hash":
        return queueMicrotask(() =>
          this.dispatch({ kind: "hashed", step: action.step, stateHash: this.member.tip.stateHash }),
        );
      case "exit":
        return this.kill();
      default:
        return; // Streams and checkpoints have no part in this.
    }
  }

  #computed(view: View, step: number): void {
    if (this.#open?.step !== step || viewName(this.#open.view) !== viewName(view.id)) return;
    const { from, to } = view.members.find(({ incarnation }) => incarnation === this.incarnation)!.shards;
    const shards = Array.from({ length: to - from }, (_, i) => this.#fleet.recordOf(step, from + i));
    this.dispatch({ kind: "computed", view: view.id, step, shards, stateHash: this.#fleet.tipOf(step).stateHash });
    this.#fleet.summed(view, step);
  }

  #updated(view: ViewId, step: number): void {
    const { lineage, stateHash } = this.#fleet.tipOf(step + 1);
    const outcome = { lineage, stateHash, loss: 1, gradientNorm: 1, applied: true };
    this.dispatch({ kind: "updated", view, step, outcome });
  }
}
