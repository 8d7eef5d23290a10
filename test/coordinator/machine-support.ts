import { step } from "../../coordinator/machine/machine.ts";
import {
  createMachine,
  type History,
  type MachineAction,
  type MachineState,
  type RunEvent,
  type Settings,
} from "../../coordinator/machine/state.ts";
import { DEFAULT_BALANCE } from "../../shared/config/schema.ts";
import { DEFAULT_TIMING } from "../../shared/config/timing.ts";
import type { CoordinatorMessage, Progress, Standing, WorkerMessage } from "../../shared/protocol/messages.ts";
import type { Incarnation, Tip, View, ViewId } from "../../shared/protocol/view.ts";
import { helloOf } from "./support.ts";

const ROOT: Tip = { step: 0, lineage: "root", stateHash: "h0" };
export const tipAt = (at: number): Tip => (at === 0 ? ROOT : { step: at, lineage: `l${at}`, stateHash: `h${at}` });

const EMPTY: History = { views: [], ledgerTip: null, skipped: 0, checkpoint: null, fingerprint: null, root: null };

/** What a coordinator finds of a run that has come to this step. */
export const historyAt = (at: number, changes: Partial<History>): History => ({
  ...{ ...EMPTY, ledgerTip: tipAt(at), fingerprint: ["f"], root: "root" },
  ...changes,
});

/**
 * The coordinator's machine with hand-made workers, on a clock that the test moves. Workers answer what is asked of them
 * at once unless they are told to be mute.
 */
export class Cluster {
  readonly machine: MachineState;
  readonly actions: MachineAction[] = [];
  readonly events: RunEvent[] = [];
  readonly mute = new Set<string>();
  now = 0;
  at = 0;

  constructor(settings: Partial<Settings> = {}, history: History = EMPTY) {
    this.machine = createMachine(
      {
        term: 1,
        shards: 8,
        totalSteps: 100_000,
        workers: 2,
        minWorkers: 1,
        timing: DEFAULT_TIMING,
        balance: DEFAULT_BALANCE,
        checkpointEverySteps: 1_000_000,
        evaluationBatches: 0,
        ...settings,
      },
      history,
      0,
    );
  }

  feed(event: Parameters<typeof step>[1]): MachineAction[] {
    const actions = step(this.machine, event, this.now);
    this.actions.push(...actions);
    for (const action of actions) {
      if (action.kind === "event") this.events.push(action.event);
      if (action.kind === "send") this.answer(action.to, action.message);
    }
    return actions;
  }

  message(from: string, message: WorkerMessage): void {
    this.feed({ kind: "message", from: from as Incarnation, message });
  }

  private answer(to: Incarnation, message: CoordinatorMessage): void {
    if (this.mute.has(to)) return;
    if (message.kind === "prepare") this.message(to, { kind: "answer", id: message.id, standing: this.standing() });
    if (message.kind === "restore") {
      this.at = message.tip.step;
      this.message(to, { kind: "restored", standing: { ...this.standing(), tip: message.tip } });
    }
  }

  standing(view: ViewId | null = this.machine.installed?.id ?? null): Standing {
    return { tip: tipAt(this.at), whole: true, view, entries: [] };
  }

  /** A cluster of as many workers as there are names, all of them there. */
  static of(names: readonly string[], settings: Partial<Settings> = {}): Cluster {
    const cluster = new Cluster({ workers: names.length, ...settings });
    for (const name of names) cluster.join(name);
    return cluster;
  }

  private hello(name: string, promised: ViewId | null, standing: Standing | null): void {
    this.feed({ kind: "hello", hello: { ...helloOf(name as Incarnation, name), promised, standing } });
  }

  /** A worker dials again that was in this view before and has kept its state. */
  back(name: string, view: ViewId = this.machine.installed!.id, promised: ViewId = view): void {
    this.hello(name, promised, this.standing(view));
  }

  /** A worker's process is gone. */
  die(name: string): void {
    const incarnation = name as Incarnation;
    this.feed({ kind: "disconnected", incarnation });
    this.feed({ kind: "refused", incarnation });
  }

  /** A worker that has loaded everything. */
  join(name: string): void {
    this.hello(name, null, null);
    const facts = { parameters: 1, weightBytes: 4, stateBytes: 4, sections: [] };
    this.message(name, { kind: "ready", fingerprint: ["f"], root: "root", standing: this.standing(null), facts });
  }

  /** Heartbeats of these workers at the cluster's present step; their speed in milliseconds a shard. */
  beat(speeds: Readonly<Record<string, number>>, more: Partial<Progress> = {}): void {
    for (const [name, shardMillis] of Object.entries(speeds)) {
      const progress: Progress = {
        view: this.machine.installed?.id ?? null,
        step: this.at,
        phase: "compute",
        stepMillis: 0,
        level: true,
        shardMillis,
        images: 0,
        residentBytes: 0,
        peers: [],
        ...more,
      };
      this.message(name, { kind: "heartbeat", progress });
    }
  }

  tick(millis = 100): void {
    this.now += millis;
    this.feed({ kind: "tick" });
  }

  /** All members enter the planned view. */
  switchOver(): void {
    const view = this.planned;
    if (view === null) return;
    for (const member of view.members)
      this.message(member.incarnation, { kind: "switched", id: view.id, step: this.at });
  }

  get planned(): View | null {
    return this.machine.planned?.view ?? null;
  }

  /** Shards of each member of the installed view. */
  get shards(): Record<string, string> {
    const members = this.machine.installed?.members ?? [];
    return Object.fromEntries(members.map((m) => [m.incarnation, `${m.shards.from}-${m.shards.to}`]));
  }

  /** Names and reasons of planned views that took effect. */
  get views(): string[] {
    return this.events.flatMap((e) => (e.type === "view" ? [`${e.id} ${e.reason}`] : []));
  }
}
