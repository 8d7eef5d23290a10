import xxhash, { type XXHashAPI } from "xxhash-wasm";
import { CheckpointStore } from "../../coordinator/checkpoints/store.ts";
import type { RunEvent } from "../../coordinator/machine/state.ts";
import { foldHistory } from "../../coordinator/records/history.ts";
import type { RecordFiles } from "../../coordinator/records/record-files.ts";
import { takeTerm } from "../../coordinator/records/term-files.ts";
import { Ruler } from "../../coordinator/ruler.ts";
import { summarize } from "../../coordinator/summary.ts";
import type { Config } from "../../shared/config/schema.ts";
import { LockstepError } from "../../shared/errors.ts";
import { nextLineage, rootLineage } from "../../shared/model/lineage.ts";
import { idsDigest } from "../../shared/plan/digest.ts";
import { Plan } from "../../shared/plan/plan.ts";
import type { CoordinatorMessage } from "../../shared/protocol/messages.ts";
import type { Incarnation, Tip } from "../../shared/protocol/view.ts";
import { resolved } from "../config/support.ts";
import { VirtualClock } from "../simulation/clock.ts";
import { type Life, newLife, type Reign } from "./life.ts";
import { SimulatedCheckpoints } from "./simulated-checkpoints.ts";
import { Crash, SimulatedDisk } from "./simulated-disk.ts";
import { nextImage, SmallWorker } from "./small-worker.ts";
import { hex } from "./support.ts";

const IMAGES = 40;
const SHARDS = 4;
const STEPS = 10;
const CHECKPOINT = { everySteps: 3, keep: 2 };
const BLOCK = 4096;
/** Virtual milliseconds: the longest run, and how long a frozen coordinator stands still. */
const LONGEST = 60_000;
const FREEZE = 220;

/**
 * A whole run in virtual time: the real coordinator (records, ruler, membership machine, checkpoints) over disks in memory,
 * and workers with the real member machine. Any operation on a disk can be the coordinator's last one, or be held up.
 */
export class Cluster {
  readonly clock = new VirtualClock();
  readonly disk: SimulatedDisk;
  readonly checkpoints = new SimulatedCheckpoints();
  readonly workers = new Map<Incarnation, SmallWorker>();
  readonly config: Config;
  readonly plan: Plan;
  readonly totalSteps = STEPS;
  readonly facts = {
    ...{ parameters: BLOCK / 4, weightBytes: BLOCK, stateBytes: 2 * BLOCK },
    sections: [
      { name: "weights", floats: BLOCK / 4 },
      { name: "momentum", floats: BLOCK / 4 },
    ],
  };
  /** States and tips of the undisturbed run, by step. */
  readonly line: { readonly images: Buffer[]; readonly tips: Tip[] };
  readonly events: RunEvent[] = [];
  readonly warnings: string[] = [];
  outcome: string | null = null;
  /** Coordinators that ended because another one rules. */
  superseded = 0;
  /** Called when a worker has finished a step. */
  stepped: (worker: SmallWorker) => void = () => {};
  /** Number of the operation at which the coordinator is frozen while another one takes over. */
  freezeAt = Number.POSITIVE_INFINITY;
  readonly #random: () => number;
  readonly #hash: XXHashAPI;
  readonly #lives = new Set<Life>();
  #pause = false;

  private constructor(random: () => number, hash: XXHashAPI) {
    this.#hash = hash;
    this.#random = random;
    this.disk = new SimulatedDisk(random);
    this.checkpoints.operate = (name) => this.disk.operate(name);
    const { config } = resolved(
      { workers: 2, shards: SHARDS, steps: this.totalSteps, batch: 8, eval: false },
      { dataset: { trainImages: IMAGES, testImages: 0 } },
    );
    this.config = { ...config, place: { ...config.place, checkpoint: CHECKPOINT } };
    const { recipe } = config;
    this.plan = new Plan({ labels: Uint8Array.from({ length: IMAGES }, (_, i) => i % 4), ...recipe });
    const first = Buffer.alloc(2 * BLOCK, 7);
    const root = rootLineage(hex(1, 64), hex(2, 64), this.hash(first));
    this.line = { images: [first], tips: [{ step: 0, lineage: root, stateHash: this.hash(first) }] };
    for (let step = 0; step < this.totalSteps; step++) {
      const image = nextImage(this.line.images[step]!, step);
      const lineage = this.lineageAfter(this.line.tips[step]!.lineage, step);
      this.line.images.push(image);
      this.line.tips.push({ step: step + 1, lineage, stateHash: this.hash(image) });
    }
  }

  /** @param random what decides about the pieces of a write, and about what a crash leaves */
  static async of(random: () => number): Promise<Cluster> {
    return new Cluster(random, await xxhash());
  }

  /** As workers hash a state: XXH64 of the table of the blocks' XXH64. */
  hash(image: Buffer): string {
    const table = Buffer.alloc((image.length / BLOCK) * 8);
    for (let block = 0; block < image.length / BLOCK; block++) {
      table.writeBigUInt64LE(this.#hash.h64Raw(image.subarray(block * BLOCK, (block + 1) * BLOCK)), 8 * block);
    }
    return this.#hash.h64Raw(table).toString(16).padStart(16, "0");
  }

  shardOf(step: number, shard: number) {
    const digest = idsDigest(this.plan.microBatch(step, shard));
    return {
      shard,
      idsDigest: digest,
      samples: this.plan.sizeOf(step, shard),
      correct: 0,
      gradientDigest: hex(step, 16),
    };
  }

  lineageAfter(parent: string, step: number): string {
    const digests = Array.from({ length: SHARDS }, (_, shard) => this.shardOf(step, shard).idsDigest);
    return nextLineage(parent, step, digests, hex(step + 77, 16));
  }

  addWorker(): SmallWorker {
    const worker = new SmallWorker(this, hex(this.workers.size + 1, 16) as Incarnation);
    this.workers.set(worker.incarnation, worker);
    worker.dial();
    const beat = () => {
      worker.heartbeat();
      worker.later(250, beat);
    };
    worker.later(250, beat);
    return worker;
  }

  /** Runs until somebody has ended the run, `until` says so, or time is up. */
  async run(until: () => boolean = () => false): Promise<void> {
    const frozen = () => [...this.#lives].some((life) => life.frozen);
    while ((this.outcome === null || frozen()) && !until() && this.clock.now < LONGEST) {
      if (!this.#pause && ![...this.#lives].some(({ frozen }) => !frozen)) void this.#start();
      await flushed();
      if (!this.clock.next()) break;
    }
  }

  /** Everything that remains on the disks, as the next coordinator would read it. */
  async remains() {
    const life = newLife();
    const store = await takeTerm(this.#filesOf(life));
    const records = [...store.records()];
    const folded = foldHistory(records);
    const parts = { config: this.config, plan: this.plan, records, outcome: "done", facts: null };
    const summary = summarize({ ...parts, stateSha256: null, startedAt: 0, endedAt: 0, testImages: 0 });
    const checkpoints = this.#storeOf(life, store.term, folded.checkpoints, () => {}, this.checkpoints);
    return { records, folded, summary, checkpoints };
  }

  /** The one that rules, as far as workers can see: the newest that answers. */
  get reign(): Reign | null {
    const answering = [...this.#lives].filter(({ frozen, reign }) => !frozen && reign !== null);
    return answering.reduce<Reign | null>(
      (best, { reign }) => (best !== null && best.term > reign!.term ? best : reign),
      null,
    );
  }

  /** A process is gone, and its disks with it for a moment; another one is started, as `up` would. */
  #crash(life: Life): void {
    if (!life.alive) return;
    this.#end(life);
    this.disk.afterCrash();
    this.checkpoints.afterCrash(this.#random);
  }

  #end(life: Life): void {
    life.alive = false;
    this.#lives.delete(life);
    this.#hangUp(life);
  }

  #hangUp({ reign }: Life): void {
    for (const worker of this.workers.values()) {
      if (reign === null || worker.link !== reign) continue;
      worker.link = null;
      worker.later(50, () => worker.dial());
    }
    this.#pause = true;
    this.clock.after(100, () => {
      this.#pause = false;
    });
  }

  /** Another coordinator is started while this one stands still; it wakes up some time later and does not know. */
  #freeze(life: Life): Promise<void> {
    life.frozen = true;
    this.#hangUp(life);
    return new Promise((resolve) => {
      this.clock.after(FREEZE, () => {
        life.frozen = false;
        resolve();
        for (const run of life.held.splice(0)) run();
      });
    });
  }

  /** Operations of a coordinator end with it, or wait while it is frozen. */
  async #operation<T>(life: Life, run: () => Promise<T>): Promise<T> {
    if (!life.alive) throw new Crash();
    if (this.disk.operations.length >= this.freezeAt) {
      this.freezeAt = Number.POSITIVE_INFINITY;
      await this.#freeze(life);
    }
    try {
      return await run();
    } catch (error) {
      if (error instanceof Crash) this.#crash(life);
      throw error;
    }
  }

  /** A small change that happens in one go. */
  #change(life: Life, run: () => void): void {
    if (!life.alive) throw new Crash();
    try {
      run();
    } catch (error) {
      if (error instanceof Crash) this.#crash(life);
      throw error;
    }
  }

  #filesOf(life: Life): RecordFiles {
    const { disk } = this;
    return {
      describe: disk.describe,
      names: disk.names,
      size: disk.size,
      read: (name, position, into) => disk.read(name, position, into),
      sync: (name) => disk.sync(name),
      syncNames: () => disk.syncNames(),
      create: async (name) => {
        const file = await this.#operation(life, () => disk.create(name));
        return {
          write: (bytes) => this.#operation(life, () => file.write(bytes)),
          sync: () => this.#operation(life, () => file.sync()),
          close: () => file.close(),
        };
      },
    };
  }

  #checkpointFilesOf(life: Life): SimulatedCheckpoints {
    const { checkpoints } = this;
    const own = Object.create(checkpoints) as SimulatedCheckpoints;
    own.create = async (name) => {
      const file = await this.#operation(life, () => checkpoints.create(name));
      return {
        write: (bytes: Uint8Array) => this.#operation(life, () => file.write(bytes)),
        sync: () => this.#operation(life, () => file.sync()),
        close: () => file.close(),
      } as unknown as typeof file;
    };
    own.rename = (from, to) => this.#operation(life, () => checkpoints.rename(from, to));
    own.replace = (name, content) => this.#change(life, () => checkpoints.replace(name, content));
    own.remove = (name) => this.#change(life, () => checkpoints.remove(name));
    return own;
  }

  #storeOf(
    life: Life,
    term: number,
    recorded: ReturnType<typeof foldHistory>["checkpoints"],
    checkRuling: () => void,
    files: SimulatedCheckpoints,
  ): CheckpointStore {
    const warn = (line: string) => void (life.alive && this.warnings.push(line));
    const { runId: run, place } = this.config;
    return new CheckpointStore({
      directory: "",
      run,
      keep: place.checkpoint.keep,
      term,
      recorded,
      checkRuling,
      warn,
      files,
    });
  }

  async #start(): Promise<void> {
    const life = newLife();
    this.#lives.add(life);
    await this.#rule(life).catch((error: unknown) => this.#onEnd(life, error));
  }

  async #rule(life: Life): Promise<void> {
    const store = await takeTerm(this.#filesOf(life));
    const folded = foldHistory(store.records());
    const checkpoints = this.#storeOf(
      life,
      store.term,
      folded.checkpoints,
      () => store.checkRuling(),
      this.#checkpointFilesOf(life),
    );
    const history = { ...folded, checkpoint: (await checkpoints.newestUsable())?.tip ?? null };
    const hear = (run: () => void) => {
      if (!life.alive) return;
      if (life.frozen) life.held.push(run);
      else run();
    };
    const every = (millis: number, run: () => void) => {
      let stopped = false;
      const again = () => {
        if (stopped || !life.alive) return;
        hear(run);
        this.clock.after(millis, again);
      };
      this.clock.after(millis, again);
      return () => {
        stopped = true;
      };
    };
    const { workers } = this;
    const ruler = new Ruler({
      ...{ config: this.config, store, history, checkpoints, testImages: 0 },
      chronicle: {
        event: (event) => void this.events.push(event),
        final() {},
        validation() {},
        truncate() {},
        note() {},
      },
      clock: { now: () => this.clock.now, every },
      calls: {
        isRefused: async (address) => workers.get(address.split(":")[0] as Incarnation)?.alive === false,
        async *pullSnapshot(address, _run, tip) {
          const snapshot = workers.get(address.split(":")[0] as Incarnation)?.snapshot;
          if (snapshot?.tip.step !== tip.step) throw new Error("the snapshot is gone");
          for (let at = 0; at < snapshot.image.length; at += BLOCK) yield snapshot.image.subarray(at, at + BLOCK);
        },
      },
    });
    const imageOf = async (step: number) => {
      if (!(await checkpoints.usable(step))) return null;
      const pieces: Buffer[] = [];
      for await (const piece of checkpoints.read(step)!) pieces.push(piece);
      return Buffer.concat(pieces).subarray(-2 * BLOCK);
    };
    const reign: Reign = { term: store.term, ruler, hear, imageOf };
    const linked = () => [...workers.values()].filter(({ link }) => link === reign);
    const sessions = {
      get incarnations() {
        return linked().map(({ incarnation }) => incarnation);
      },
      send: (to: Incarnation, message: CoordinatorMessage) => {
        const worker = workers.get(to);
        if (!life.alive || worker?.link !== reign) return;
        worker.later(1, () => worker.link === reign && worker.receive(message));
      },
      close: (incarnation: Incarnation) => {
        const worker = workers.get(incarnation);
        if (worker?.link === reign) worker.hangUp();
      },
    };
    const { ended } = history;
    const ending = ended === null ? ruler.rule(sessions) : ruler.conclude(sessions, { kind: "done" });
    ending.then(
      ({ kind }) => {
        this.outcome = kind;
      },
      (error: unknown) => this.#onEnd(life, error),
    );
    life.reign = reign;
  }

  /** Only a crash, or another one's rule, may end a coordinator before its run. */
  #onEnd(life: Life, error: unknown): void {
    const crashed = error instanceof Crash || (error as Error).cause instanceof Crash;
    const superseded = error instanceof LockstepError && error.code === "LS_SUPERSEDED";
    if (!crashed && !superseded) throw error;
    if (crashed) this.#crash(life);
    else this.#end(life);
    this.superseded += superseded ? 1 : 0;
  }
}

/** Everything that follows from what has happened, as far as it waits for nothing else. */
const flushed = () => new Promise((resolve) => setImmediate(resolve));
