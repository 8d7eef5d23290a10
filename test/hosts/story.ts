import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type History, normalStep } from "../bench/pauses/history.ts";
import { joinPause, leavePause, lossPause } from "../bench/pauses/measures.ts";
import { NotSeen } from "../faults/disturbed-run.ts";
import { judgeFiles } from "../faults/play.ts";
import type { QuietRun } from "../faults/quiet-run.ts";
import { attackCount } from "../security/attacks.ts";
import type { Outcome } from "../security/attempt.ts";
import { CpuShare } from "./cpu-share.ts";
import { HostsRun } from "./hosts-run.ts";
import { Network } from "./network.ts";

/** How a host is kept as fast as it would be alone, where all hosts share this machine's cores. */
export type Limit =
  /** Part of a core, by the kernel. */
  | { readonly kind: "cores"; readonly cores: number }
  /** Each micro-batch takes so many milliseconds longer, in which the processor is free. */
  | { readonly kind: "delay"; readonly millis: number };

export interface StoryOptions {
  /** Everything of this story is written here. */
  readonly directory: string;
  readonly data: string;
  /** Options of `lockstep up` that make the recipe. */
  readonly recipe: readonly string[];
  readonly batch: number;
  /** The same recipe on one machine, by one process; may still be under way. */
  readonly quiet: Promise<Pick<QuietRun, "marks" | "summary">>;
  readonly limit: Limit;
  /** Steps that are watched before and after each change. */
  readonly calm: number;
  /** Without the attacks that take many seconds. */
  readonly quick: boolean;
  /** Ends it at once, and leaves no process and no network. */
  readonly signal?: AbortSignal;
  /** What happens, as it does. */
  tell(seconds: number, text: string): void;
}

/** Milliseconds, images a second; null where the files do not show it. */
export interface Told {
  readonly imagesPerSecond: { readonly before: number | null; readonly after: number | null };
  readonly pauses: Readonly<Record<"join" | "drain" | "cut", number | null>>;
  readonly attacks: readonly Outcome[];
  /** What the coordinator counted meanwhile. */
  readonly refusals: Readonly<Record<string, number>>;
  /** Where each worker keeps the images that it fetched. */
  readonly caches: Readonly<Record<string, string>>;
  readonly out: string;
  /** What went wrong; null: nothing, and the hashes are those of the quiet run. */
  readonly failure: string | null;
}

/** Hosts of the network, after the coordinator's. */
const [FIRST, SECOND, THIRD] = ["worker-0", "worker-1", "worker-2"] as const;
const HOSTS = [FIRST, SECOND, THIRD];
const INTRUDER = HOSTS.length + 1;
const hostOf = (worker: string): number => HOSTS.indexOf(worker as typeof FIRST) + 1;
const UP = "up";
/** A link of 200 Mbit/s. */
const KILOBITS = 200_000;

/**
 * A coordinator and three machines: two train, a third joins, a fourth one attacks, one is drained, one loses its cable, the
 * last one ends the run. Every machine is a network namespace with its own address, cache and speed.
 */
export async function playStory(options: StoryOptions): Promise<Told> {
  const { directory, limit, calm, quick } = options;
  const out = join(directory, "run");
  const network = Network.make(HOSTS.length + 2, KILOBITS);
  const run = new HostsRun({ network, out, logs: join(directory, "logs") });
  const shares = new Map<string, CpuShare>();
  options.signal?.addEventListener("abort", () => run.interrupt());
  const started = Date.now();
  const tell = (text: string) => options.tell((Date.now() - started) / 1000, text);
  const caches = Object.fromEntries(HOSTS.map((worker) => [worker, join(directory, `cache-${worker}`)]));
  const at = { join: 0, drain: 0, cut: 0 };
  let attacks: readonly Outcome[] = [];
  let refusals: Told["refusals"] = {};
  let failure: string | null = null;
  try {
    await play();
    failure = await judge();
  } catch (error) {
    if (!(error instanceof NotSeen)) throw error;
    failure = error.message;
  } finally {
    await run.close();
    network.remove();
    for (const share of shares.values()) share.remove();
  }
  return { ...figures(run.history()), attacks, refusals, caches, out, failure };

  async function play(): Promise<void> {
    const nobody = ["--workers", "2", "--no-local-workers", "--listen", network.address(0)];
    run.start(0, UP, "deploy/cli/main.js", [
      ...["up", ...options.recipe, "--data", options.data, "--out", out, "--no-eval"],
      ...nobody,
    ]);
    const line = await run.joinLine([UP]);
    tell(`coordinator and NATS listen at ${network.address(0)}`);
    join_(line, FIRST);
    join_(line, SECOND);
    await run.compute([FIRST, SECOND], calm, [UP, FIRST, SECOND]);
    tell(`${FIRST} and ${SECOND} joined by the line and train: ${shards()}`);

    at.join = Date.now();
    join_(line, THIRD);
    await run.compute(HOSTS, calm, [UP, ...HOSTS]);
    tell(`${THIRD} joined while they went on: ${shards()}`);

    const views = run.events().filter(({ type }) => type === "view").length;
    const before = run.step;
    attacks = await run.intrude(INTRUDER, quick);
    refusals = run.refusals();
    const held = attacks.filter((attack) => attack.held).length;
    tell(
      `an intruder at ${network.address(INTRUDER)} tried ${attacks.length} attacks: ${held} refused as they must be`,
    );
    tell(`${run.step - before} steps went on meanwhile`);
    if (run.events().filter(({ type }) => type === "view").length > views)
      throw new NotSeen("a view changed while the intruder was there");

    at.drain = Date.now();
    run.child(FIRST).signal("SIGTERM");
    await run.compute([SECOND, THIRD], calm, [UP, SECOND, THIRD]);
    await run.until(`${FIRST} ends`, () => !run.child(FIRST).running, [UP]);
    tell(`${FIRST} was drained (SIGTERM): ${shards()}`);

    at.cut = Date.now();
    network.isolate(hostOf(THIRD));
    await run.compute([SECOND], Math.min(4, calm), [UP, SECOND]);
    tell(`the cable of ${THIRD} was cut: ${shards()}`);
    await run.child(THIRD).stop(0);
    hurry();
  }

  /** A person carries the line to a machine that has neither the data set nor anything else of the run. */
  function join_(line: string, worker: string): void {
    const home = join(directory, worker);
    mkdirSync(home);
    const file = join(home, "join");
    writeFileSync(file, `${line}\n`, { mode: 0o600 });
    const args = ["worker", "--join", file, "--name", worker, "--data", "fetch"];
    const env: Record<string, string> = { LOCKSTEP_CACHE: caches[worker]! };
    const share = limit.kind === "cores" ? CpuShare.make(`lockstep-${process.pid}-${worker}`, limit.cores) : null;
    if (share !== null) shares.set(worker, share);
    // Where the kernel gives no shares, a host sleeps for what it would take longer.
    else env.LOCKSTEP_SHARD_DELAY = `${worker}:${limit.kind === "delay" ? limit.millis : `x${1 / limit.cores}`}`;
    run.start(hostOf(worker), worker, "deploy/cli/main.js", args, { env, share });
  }

  /** What is left shows nothing but hashes. */
  function hurry(): void {
    for (const share of shares.values()) share.lift();
    if (limit.kind === "delay") run.operate("inject", out, "slow", "--worker", SECOND);
  }

  function shards(): string {
    const all = Object.entries(run.shards).filter(([, range]) => range !== "");
    return all.map(([worker, range]) => `${worker} ${range}`).join(", ");
  }

  async function judge(): Promise<string | null> {
    const codes = await run.ended();
    const wrong = [UP, FIRST, SECOND].filter((name) => codes[name] !== 0);
    if (wrong.length > 0) return wrong.map((name) => `${name} ended with ${codes[name]}`).join("; ");
    if (attacks.length < attackCount(quick)) return `the intruder made only ${attacks.length} attempts`;
    const broken = attacks.filter(({ held }) => !held).map(({ name, outcome }) => `${name}: ${outcome}`);
    if (broken.length > 0) return `the intruder got further than it should: ${broken.join("; ")}`;
    return judgeFiles(out, await options.quiet);
  }

  function figures(history: History): Pick<Told, "imagesPerSecond" | "pauses"> {
    const views = history.events.filter(({ type, step }) => type === "view" && typeof step === "number");
    const speed = (view: (typeof views)[number] | undefined, near: number) => {
      const millis = view === undefined ? null : normalStep(history, String(view.id), near);
      return millis === null ? null : Math.round((options.batch * 1000) / millis);
    };
    const joined = views.findIndex(({ reason }) => String(reason).includes(`join: ${THIRD}`));
    const level = views.find(({ reason }) => String(reason).includes(`level: ${THIRD}`));
    const step = Number(views[joined]?.step ?? 0);
    return {
      imagesPerSecond: { before: speed(views[joined - 1], step), after: speed(level, Number(level?.step ?? 0)) },
      pauses: {
        join: joinPause(history, at.join, THIRD)?.millis ?? null,
        drain: leavePause(history, at.drain, FIRST)?.millis ?? null,
        cut: lossPause(history, at.cut, THIRD)?.millis ?? null,
      },
    };
  }
}
