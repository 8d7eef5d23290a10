import { rootLineage } from "../../../shared/model/lineage.ts";
import { idsDigest } from "../../../shared/plan/digest.ts";
import type { Plan } from "../../../shared/plan/plan.ts";
import type { ShardRecord, Trailer } from "../../../shared/protocol/trailer.ts";
import { type Incarnation, ownersOf, type Tip, type View, viewName } from "../../../shared/protocol/view.ts";
import { SimulatedWorker } from "./simulated-worker.ts";

const hex = (value: number, digits: number) => value.toString(16).padStart(digits, "0");

/** Simulated workers of one process. Between them nothing is lost and nothing takes time: the coordinator is looked at. */
export class Fleet {
  readonly workers = new Map<Incarnation, SimulatedWorker>();
  readonly steps: number;
  readonly timing: { readonly stepBudgetFloor: number };
  computeMillis: number;
  /** When the last member that it waits for began its first step of a view, by the view's name. */
  readonly entered = new Map<string, { readonly members: Set<Incarnation>; at: number }>();
  readonly #plan: Plan;
  readonly #summed = new Map<string, number>();
  readonly #records = new Map<string, ShardRecord>();

  constructor(plan: Plan, steps: number, timing: Fleet["timing"], computeMillis: number) {
    this.timing = timing;
    this.#plan = plan;
    this.steps = steps;
    this.computeMillis = computeMillis;
  }

  start(count: number, coordinator: string): void {
    for (let i = 0; i < count; i++) {
      const worker = new SimulatedWorker(this, i, coordinator);
      this.workers.set(worker.incarnation, worker);
    }
  }

  get living(): SimulatedWorker[] {
    return [...this.workers.values()].filter(({ alive }) => alive);
  }

  tipOf(step: number): Tip {
    return { step, lineage: rootLineage(hex(1, 64), hex(2, 64), hex(step, 16)), stateHash: hex(step + 1, 16) };
  }

  recordOf(step: number, shard: number): ShardRecord {
    const key = `${step}/${shard}`;
    let record = this.#records.get(key);
    if (record === undefined) {
      const samples = this.#plan.sizeOf(step, shard);
      record = {
        shard,
        idsDigest: idsDigest(this.#plan.microBatch(step, shard)),
        samples,
        correct: 0,
        gradientDigest: hex(step, 16),
      };
      this.#records.set(key, record);
    }
    return record;
  }

  owed(view: View) {
    return view.members.map(({ incarnation }) => ({ incarnation, owed: 65_536, received: 65_536 }));
  }

  began({ incarnation }: SimulatedWorker, view: View, step: number): void {
    const name = viewName(view.id);
    const entry = this.entered.get(name) ?? { members: new Set<Incarnation>(), at: 0 };
    this.entered.set(name, entry);
    if (!entry.members.has(incarnation)) entry.at = performance.now();
    entry.members.add(incarnation);
    // Joiners of a planned view learn from the others that it took effect.
    for (const other of this.living) {
      if (other.member.step === null && other.member.plan !== null) {
        setImmediate(() => other.dispatch({ kind: "active", view: view.id, step }));
      }
    }
  }

  /** A joiner has pulled the state of somebody who is level. */
  level(worker: SimulatedWorker, view: View, step: number): void {
    const source = this.living.find(({ member }) => member.whole && member.tip.step === step);
    const { stateHash } = this.tipOf(step);
    worker.dispatch({ kind: "pulled", view: view.id, step, stateHash, entries: [...(source?.member.kept ?? [])] });
  }

  publish(trailer: Trailer): void {
    setImmediate(() => {
      for (const worker of this.living) {
        if (worker.incarnation !== trailer.from) worker.dispatch({ kind: "trailer", trailer });
      }
    });
  }

  /** One owner more has published its nodes. */
  summed(view: View, step: number): void {
    const key = `${viewName(view.id)}/${step}`;
    const count = (this.#summed.get(key) ?? 0) + 1;
    this.#summed.set(key, count);
    if (count < ownersOf(view).length) return;
    for (const worker of this.living) worker.dispatch({ kind: "reduced", view: view.id, step });
  }

  /** A worker dies: its peers' dials are refused. */
  kill(worker: SimulatedWorker): void {
    worker.kill();
    for (const peer of this.living) {
      const view = peer.member.view?.id;
      if (view !== undefined) peer.dispatch({ kind: "lost", view, peer: worker.incarnation, refused: true });
    }
  }
}
