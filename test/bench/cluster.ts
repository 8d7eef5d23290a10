import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { builtProgram, workerCommand } from "../../deploy/up/built.ts";
import { Child } from "../../deploy/up/child.ts";
import { Keeper } from "../../deploy/up/keeper.ts";
import { LineTail } from "../../deploy/up/line-tail.ts";
import { startNats } from "../../deploy/up/nats.ts";
import { natsProgram } from "../../deploy/up/nats-program.ts";
import { LOCAL_NETWORK } from "../../deploy/up/network-options.ts";
import { prepareRun, writeConfig } from "../../deploy/up/prepare.ts";
import { Reaper } from "../../deploy/up/reaper.ts";
import { COORDINATOR_POLICY } from "../../deploy/up/restart-policy.ts";
import { RECIPES } from "../../shared/config/recipes/index.ts";
import type { Settings } from "../../shared/config/settings.ts";
import { computeEnvironment } from "../../worker/compute/tensorflow.ts";
import { type EventMark, type History, historyOf } from "./pauses/history.ts";

export interface ClusterOptions {
  /** A directory of its own, which the caller removes. */
  readonly directory: string;
  readonly model: Settings["model"];
  readonly batch: number;
  /** Side of the generated images. */
  readonly side: number;
  readonly images: number;
  readonly workers: number;
  /** null: no checkpoint before the end. */
  readonly checkpointEvery: number | null;
  readonly broadcast?: boolean;
  /** Options of Node for every process. */
  readonly node?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export interface Member {
  readonly name: string;
  readonly child: Child;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
}

const STEPS = 20_000;
const PATIENCE = 180_000;

/**
 * A cluster of real processes as `lockstep up` starts them, for benchmarks that disturb it: a coordinator that is started
 * again when it dies, and workers that are not.
 */
export class Cluster {
  readonly #options: ClusterOptions;
  readonly #reaper = new Reaper();
  readonly #run: string;
  #coordinator: Keeper | null = null;
  #nats: Keeper | null = null;
  readonly #members: Member[] = [];
  readonly #tails: { readonly events: LineTail; readonly steps: LineTail };
  readonly #events: EventMark[] = [];
  #step = -1;
  #names = 0;
  natsUrl: string | null = null;
  runId = "";

  private constructor(options: ClusterOptions) {
    this.#options = options;
    this.#run = join(options.directory, "run");
    this.#tails = {
      events: new LineTail(join(this.#run, "events.ndjson")),
      steps: new LineTail(join(this.#run, "steps.ndjson")),
    };
  }

  /** Starts a cluster and waits for its first steps; its first workers are worker-0, worker-1 and so on. */
  static async start(options: ClusterOptions): Promise<Cluster> {
    const cluster = new Cluster(options);
    try {
      await cluster.#start();
      return cluster;
    } catch (error) {
      await cluster.stop();
      throw error;
    }
  }

  /** Step that was final last; −1 before the first. */
  get step(): number {
    this.#read();
    return this.#step;
  }

  get coordinator(): Keeper {
    return this.#coordinator!;
  }

  /** Members whose processes live. */
  get members(): readonly Member[] {
    return this.#members.filter(({ child }) => child.running);
  }

  startWorker(): Member {
    const name = `worker-${this.#names++}`;
    const join_ = ["--join", join(this.#run, "endpoints.json"), "--name", name];
    const [node, ...worker] = workerCommand();
    const command = () => [node!, ...this.#node(name), ...worker, ...join_];
    const env = { ...this.#options.env, ...computeEnvironment({ device: "cpu", threads: 1 }) };
    const startedAt = Date.now();
    const member = {
      name,
      startedAt,
      child: new Child({ name, command, env, logFile: this.#log(name) }, 0, this.#reaper),
    };
    this.#members.push(member);
    return member;
  }

  /** Waits for an event that happens from now on, or has at or after `from` (milliseconds since 1970). */
  async event(what: string, fits: (event: EventMark) => boolean, from = Date.now()): Promise<EventMark> {
    return this.#until(what, () => this.#events.find((event) => event.time >= from && fits(event)));
  }

  /** Waits until `count` more steps are final. */
  async steps(count: number): Promise<void> {
    const goal = this.step + count;
    await this.#until(`step ${goal}`, () => (this.step >= goal ? true : undefined));
  }

  /** Waits until the worker has shards of its own. */
  async computes(member: Member): Promise<void> {
    const level = (e: EventMark) => e.type === "view" && String(e.reason).includes(`level: ${member.name}`);
    await this.event(`${member.name} computes`, level, member.startedAt);
  }

  history(): History {
    const lines = (file: string) => new LineTail(join(this.#run, file)).read();
    return historyOf(lines("steps.ndjson"), lines("events.ndjson"));
  }

  /** Lines of a worker's log that are JSON, oldest first. */
  logOf({ name }: Member): Record<string, unknown>[] {
    return new LineTail(this.#log(name)).read();
  }

  /** Ends every process. */
  async stop(): Promise<void> {
    await Promise.all(this.#members.map(({ child }) => child.running && child.stop(0)));
    await this.#coordinator?.stop(0);
    await this.#nats?.stop(0);
    this.#reaper.close();
  }

  async #start(): Promise<void> {
    const { directory, model, batch, side, images, workers, checkpointEvery, broadcast } = this.#options;
    const data = join(directory, "data");
    await writeSynthetic(data, { train: images, test: 10, classes: 10, side, seed: 1 });
    const recipe = join(directory, "recipe.json");
    writeFileSync(recipe, JSON.stringify({ ...RECIPES.quick!.settings, recipe: "bench", model }));
    const options = { recipe, data, out: this.#run, workers, batch, steps: STEPS, eval: false };
    const { config } = await prepareRun(
      options,
      { demo: false, network: LOCAL_NETWORK, devices: ["cpu"] },
      AbortSignal.timeout(PATIENCE),
    );
    mkdirSync(join(this.#run, "logs"), { recursive: true });
    const program = broadcast === true ? natsProgram() : null;
    if (program !== null) {
      const { url, keeper } = await startNats(program, this.#log("nats"), this.#reaper, () => {});
      this.natsUrl = url;
      this.#nats = keeper;
    }
    const checkpoint = { everySteps: checkpointEvery ?? STEPS, keep: 1 };
    this.runId = config.runId;
    // Views change when the benchmark says so, and at no other time.
    const balance = { gain: 1, steps: 1 };
    writeConfig(this.#run, { ...config, place: { ...config.place, nats: this.natsUrl, checkpoint, balance } });
    const env = { ...this.#options.env };
    const command = (starts: number) => [
      process.execPath,
      ...this.#node("coordinator"),
      builtProgram("coordinator/main.js"),
      ...["--run", this.#run, ...(starts === 0 ? ["--start"] : [])],
    ];
    const spec = { name: "coordinator", command, env, logFile: this.#log("coordinator") };
    this.#coordinator = new Keeper(spec, { ...COORDINATOR_POLICY, most: 1000 }, this.#reaper, {
      note: () => {},
      over: () => {},
    });
    this.#coordinator.start();
    for (let i = 0; i < workers; i++) this.startWorker();
    await this.steps(8);
  }

  #node(name: string): string[] {
    return (this.#options.node ?? []).map((option) => option.replaceAll("%name%", name));
  }

  #log(name: string): string {
    return join(this.#run, "logs", `${name}.log`);
  }

  #read(): void {
    const steps = this.#tails.steps.read();
    if (steps.length > 0) this.#step = Number(steps.at(-1)!.step);
    this.#events.push(...historyOf([], this.#tails.events.read()).events);
  }

  async #until<T>(what: string, ask: () => T | undefined): Promise<T> {
    const deadline = performance.now() + PATIENCE;
    for (;;) {
      this.#read();
      const answer = ask();
      if (answer !== undefined) return answer;
      if (this.members.length === 0) throw new Error(`Every worker has ended.${this.#lastWords()}`);
      if (performance.now() > deadline)
        throw new Error(`${what} did not come in ${PATIENCE / 1000} s.${this.#lastWords()}`);
      await sleep(20);
    }
  }

  #lastWords(): string {
    return this.#members.map(({ name }) => `\n${name}: ${readFileSync(this.#log(name), "utf8").slice(-300)}`).join("");
  }
}
