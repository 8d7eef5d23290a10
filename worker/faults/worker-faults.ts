import { randomBytes } from "node:crypto";
import { Armed } from "../../shared/faults/armed.ts";
import { type Fault, faultText, type WorkerMoment } from "../../shared/faults/fault.ts";
import { noteStrike, strikeProcess } from "../../shared/faults/strike.ts";
import type { WorkerMessage } from "../../shared/protocol/messages.ts";
import type { ComputeRequest } from "../compute/messages.ts";
import type { NodeBuffer } from "../compute/step.ts";
import { textChunk } from "../exchange/chunk.ts";
import type { Exchange } from "../exchange/exchange.ts";
import { standingOf } from "../member/member.ts";
import type { MemberState } from "../member/state.ts";
import type { Counters } from "../memory/control.ts";
import { type MemoryPlan, ofStep } from "../memory/plan.ts";
import { flipBit, flipState } from "./flip.ts";

/** What faults of a worker reach into. */
export interface FaultTargets {
  readonly memory: WebAssembly.Memory;
  readonly plan: Pick<MemoryPlan, "state" | "reduced">;
  post(request: ComputeRequest): void;
  readonly exchange: Pick<Exchange, "disturb">;
  readonly member: MemberState;
  readonly counters: Counters;
  send(message: WorkerMessage): void;
  log(event: string, detail: Record<string, unknown>): void;
}

const GARBAGE_BYTES = 1000;
const MOST_DELAY = 60_000;

/** These moments are inside the compute thread. */
const THREAD_MOMENTS: readonly unknown[] = ["forward", "backward", "update"] satisfies WorkerMoment[];

/** Injected faults of one worker, as its main thread sees them: nothing happens unless somebody asks for it. */
export class WorkerFaults {
  readonly #targets: FaultTargets;
  readonly #armed = new Armed();
  #flipPartial = false;
  #flipReduced = false;

  constructor(targets: FaultTargets) {
    this.#targets = targets;
  }

  /** Arms a fault, or does it at once where it names no moment. */
  inject(fault: Fault): void {
    const { log, post } = this.#targets;
    log("faultArmed", { fault: faultText(fault) });
    if (fault.moment === null) this.strike(fault);
    else if (THREAD_MOMENTS.includes(fault.moment)) post({ kind: "inject", fault });
    else this.#armed.add(fault);
  }

  /** The worker is at this moment. */
  at(moment: WorkerMoment): void {
    this.#armed.bring(moment, (fault) => this.strike(fault));
  }

  strike(fault: Fault): void {
    noteStrike(fault);
    const { memory, plan, post, counters } = this.#targets;
    if (strikeProcess(fault)) return;
    switch (fault.name) {
      case "stuck":
      case "thread-death":
        return post({ kind: "inject", fault: { ...fault, moment: null } });
      case "slow":
        return counters.set("shardDelay", Math.min(MOST_DELAY, fault.millis));
      case "garbage":
      case "stale-view":
        return this.#disturb(fault.name);
      case "flip-weights":
      case "flip-slots":
        return flipState(memory, plan.state, fault.name);
      case "flip-partial":
        this.#flipPartial = true;
        return;
      case "flip-reduced":
        this.#flipReduced = true;
        return;
    }
  }

  /** Sends what no sound member sends. */
  #disturb(kind: "garbage" | "stale-view"): void {
    const { exchange, member, send } = this.#targets;
    if (member.view === null) return;
    const { id } = member.view;
    if (kind === "garbage") return exchange.disturb(id, randomBytes(GARBAGE_BYTES));
    const stale = { term: id.term, number: Math.max(0, id.number - 1) };
    exchange.disturb(id, textChunk("trailer", stale, member.tip.step, {}));
    send({ kind: "answer", id: stale, standing: standingOf(member) });
    send({ kind: "switched", id: stale, step: member.tip.step });
  }

  /** Nodes are about to be sent. */
  beforeSending(nodes: readonly NodeBuffer[]): void {
    if (!this.#flipPartial || nodes.length === 0) return;
    this.#flipPartial = false;
    flipBit(this.#targets.memory, nodes[0]!.address + 1);
  }

  /** A step is about to be committed. */
  beforeCommit(step: number): void {
    if (!this.#flipReduced) return;
    this.#flipReduced = false;
    flipBit(this.#targets.memory, ofStep(this.#targets.plan.reduced, step).address + 1);
  }
}
