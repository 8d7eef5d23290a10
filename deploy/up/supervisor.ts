import { rmSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import type { Config } from "../../shared/config/schema.ts";
import { LockstepError } from "../../shared/errors.ts";
import { computeEnvironment } from "../../worker/compute/tensorflow.ts";
import type { Display } from "./display.ts";
import { describeEnd } from "./exit-meaning.ts";
import type { RunSummary } from "./final-text.ts";
import type { Interrupts } from "./interrupts.ts";
import { errorOf, Keeper, type Over } from "./keeper.ts";
import {
  coordinatorArguments,
  isSecured,
  LOCAL_NETWORK,
  type NetworkOptions,
  workerArguments,
} from "./network-options.ts";
import { flawOfPreparedLine } from "./prepared-line.ts";
import { Probe, readEndpoints } from "./probe.ts";
import type { GroupWatch } from "./reaper.ts";
import { COORDINATOR_POLICY, WORKER_POLICY } from "./restart-policy.ts";
import { readJoinLink, readSummary } from "./runs.ts";
import type { RunStatus } from "./status.ts";

const POLL_MILLIS = 500;
/** How long processes may take to end by themselves once the run has ended, in milliseconds. */
const LEAVE_MILLIS = 10_000;
/** How long a run may stay without any worker, in milliseconds, before it ends: nobody here will bring one back. */
const WORKERLESS_MILLIS = 20_000;

export interface SupervisorOptions {
  readonly directory: string;
  readonly config: Config;
  /** Where each worker computes: `cpu` or the index of a GPU. Workers take them in turn. */
  readonly devices: readonly string[];
  /** Restarts of a crashed worker. */
  readonly workerRestarts: number;
  /** Program and first arguments of both processes. */
  readonly programs: { readonly coordinator: readonly string[]; readonly worker: readonly string[] };
  /** false: all workers are those of other machines. */
  readonly localWorkers?: boolean;
  /** How they are reached. */
  readonly network?: NetworkOptions;
  /** What the run was given before it began. */
  readonly prepared?: string | null;
  /** Worker k on core k alone, for benchmarks. */
  readonly pin?: boolean;
}

export type RunEnd =
  | { readonly kind: "ended"; readonly summary: RunSummary }
  | { readonly kind: "killed" }
  | { readonly kind: "failed"; readonly error: LockstepError };

/** The coordinator and the workers of one run on this machine, from their start to their end. */
export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #display: Display;
  readonly #interrupts: Interrupts;
  readonly #coordinator: Keeper;
  readonly #workers: readonly Keeper[];
  readonly #probe: Probe;
  readonly #overs: { readonly keeper: string; readonly over: Over }[] = [];
  #wake: () => void = () => {};
  #saidMessages = "";
  #workerlessSince: number | null = null;
  #stopAccepted = false;
  #saidJoin = false;

  constructor(options: SupervisorOptions, groups: GroupWatch, display: Display, interrupts: Interrupts) {
    this.#options = options;
    this.#display = display;
    this.#interrupts = interrupts;
    const { directory, config, programs, network = LOCAL_NETWORK } = options;
    const log = (name: string) => join(directory, "logs", `${name}.log`);
    const { listen } = config.place;
    const keeper = (
      name: string,
      command: (starts: number) => string[],
      env: Record<string, string>,
      most: typeof WORKER_POLICY,
    ) =>
      new Keeper({ name, command, env, logFile: log(name) }, most, groups, {
        note: (text) => display.note(text),
        over: (over) => this.#onOver(name, over),
        // The run's last word is said: nothing is started again for it.
        isDone: () => readSummary(directory) !== null,
      });
    const rule = (starts: number) => [
      ...programs.coordinator,
      "--run",
      directory,
      ...coordinatorArguments(listen, network),
      ...(starts === 0 ? ["--start"] : []),
    ];
    this.#coordinator = keeper("coordinator", rule, {}, COORDINATOR_POLICY);
    const endpoints = join(directory, "endpoints.json");
    this.#workers = Array.from({ length: options.localWorkers === false ? 0 : config.place.workers }, (_, index) => {
      const name = `worker-${index}`;
      const device = options.devices[index % options.devices.length]!;
      const core = options.pin === true ? ["taskset", "-c", String(index % cpus().length)] : [];
      const join_ = () => [
        ...core,
        ...programs.worker,
        "--join",
        endpoints,
        "--name",
        name,
        ...workerArguments(listen, network),
      ];
      const policy = { ...WORKER_POLICY, most: options.workerRestarts };
      return keeper(name, join_, computeEnvironment({ device, threads: 1 }), policy);
    });
    this.#probe = Probe.ofDirectory(directory, config.runId);
  }

  /** Runs until the run has ended, one way or another; no process is left behind. `tick`: called twice a second. */
  async run(tick: () => void): Promise<RunEnd> {
    const { directory } = this.#options;
    // What an earlier life of the run left would be taken for this one's.
    for (const name of ["summary.json", "endpoints.json", "trace"])
      rmSync(join(directory, name), { force: true, recursive: true });
    this.#coordinator.start();
    for (const worker of this.#workers) worker.start();
    const { first, second } = this.#interrupts;
    const wake = () => this.#wake();
    first.signal.addEventListener("abort", wake);
    second.signal.addEventListener("abort", wake);
    try {
      for (;;) {
        const end = this.#endOf() ?? (await this.#turn());
        tick();
        if (end !== null) return end;
        await this.#pause();
      }
    } finally {
      first.signal.removeEventListener("abort", wake);
      second.signal.removeEventListener("abort", wake);
      await this.#endProcesses();
      tick();
      this.#probe.close();
    }
  }

  /** Did what happened to the processes end the run? */
  #endOf(): RunEnd | null {
    if (this.#interrupts.second.signal.aborted) return { kind: "killed" };
    const { over } = this.#coordinator;
    if (over !== null) return this.#coordinatorEnd(over);
    const summary = readSummary(this.#options.directory);
    // It wrote its last word and then could not end well.
    if (summary !== null && this.#coordinator.pid === null) return ended(summary);
    if (!this.#workers.every((worker) => worker.over !== null)) return null;
    const refused = this.#overs.find(({ over }) => over.kind === "refused");
    return refused === undefined ? null : { kind: "failed", error: errorOf(refused.keeper, refused.over) };
  }

  #coordinatorEnd(over: Over): RunEnd {
    const summary = readSummary(this.#options.directory);
    if (summary !== null) return ended(summary);
    if (over.kind === "refused" || over.kind === "gaveUp")
      return { kind: "failed", error: errorOf("The coordinator", over) };
    const error = new LockstepError("LS_COORDINATOR", "The coordinator ended without a summary.", {
      hint: this.#logHint("coordinator"),
    });
    return { kind: "failed", error };
  }

  async #turn(): Promise<RunEnd | null> {
    if (this.#interrupts.any && !this.#stopAccepted) this.#stopAccepted = await this.#askToStop();
    const status = await this.#probe.status();
    if (status !== null) this.#show(status);
    return this.#workerless(status);
  }

  async #askToStop(): Promise<boolean> {
    for (const worker of this.#workers) if (worker.pid === null) worker.forbidRestarts();
    return this.#probe.stop("interrupted");
  }

  #show(status: RunStatus): void {
    this.#sayJoin();
    for (const { time, text } of status.messages) {
      if (time <= this.#saidMessages) continue;
      this.#display.note(text);
    }
    this.#saidMessages = status.messages.at(-1)?.time ?? this.#saidMessages;
    this.#display.status(status);
  }

  /** The coordinator has written the line before it answers. It holds a secret: it goes to a terminal, and into no log. */
  #sayJoin(): void {
    const { directory, config, network = LOCAL_NETWORK, prepared = null } = this.#options;
    if (this.#saidJoin || !isSecured(config.place.listen, network)) return;
    this.#saidJoin = true;
    const where = readEndpoints(directory)?.coordinator;
    const flaw = prepared === null || where === undefined ? null : flawOfPreparedLine(prepared, where);
    if (flaw !== null) this.#display.note(flaw);
    const on = (line: string) => this.#display.note(`On another machine: npx lockstep worker --join ${line}`);
    if (network.certificates.length > 0)
      return on(`lockstep://${where ?? "host:port"} --tls-ca CA.pem --tls-cert CERT.pem --tls-key KEY.pem`);
    const link = readJoinLink(directory);
    const file = join(directory, "security", "join");
    if (link === null)
      return this.#display.note(
        `${file} cannot be read, so no line for other machines is shown: npx lockstep token create ${directory} makes one.`,
      );
    on(process.stderr.isTTY ? link : `FILE (a copy of ${file})`);
  }

  /** Without any worker, here or joined from elsewhere, the run cannot go on. */
  #workerless(status: RunStatus | null): RunEnd | null {
    // Who was never here may still come: the coordinator itself ends a run that waits too long.
    if (this.#workers.length === 0) return null;
    const present = this.#workers.some((worker) => worker.over === null) || (status?.workers.length ?? 0) > 0;
    if (present) {
      this.#workerlessSince = null;
      return null;
    }
    const now = performance.now();
    this.#workerlessSince ??= now;
    if (now - this.#workerlessSince < WORKERLESS_MILLIS) return null;
    const gaveUp = this.#overs.findLast(({ over }) => over.kind === "gaveUp");
    const words = gaveUp !== undefined && "words" in gaveUp.over ? gaveUp.over.words : null;
    const why = words === null ? "" : ` The last words of ${gaveUp!.keeper}: ${words}`;
    const error = new LockstepError("LS_NO_WORKERS", `No worker is left.${why}`, { hint: this.#logHint("worker-0") });
    return { kind: "failed", error };
  }

  #logHint(name: string): string {
    return `Its log: ${join(this.#options.directory, "logs", `${name}.log`)}.`;
  }

  #onOver(keeper: string, over: Over): void {
    this.#overs.push({ keeper, over });
    if (over.kind === "refused") {
      this.#display.note(
        `${keeper} cannot work here (${describeEnd(over.end)})${over.words === null ? "" : `: ${over.words}`}`,
      );
    }
    this.#wake();
  }

  /** Until the next turn, or until something happens. */
  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, POLL_MILLIS);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Released workers leave by themselves; whoever does not is ended. */
  async #endProcesses(): Promise<void> {
    const all = [this.#coordinator, ...this.#workers];
    for (const keeper of all) keeper.forbidRestarts();
    const atOnce = this.#interrupts.second.signal.aborted || readSummary(this.#options.directory) === null;
    const deadline = performance.now() + (atOnce ? 0 : LEAVE_MILLIS);
    while (performance.now() < deadline && all.some((keeper) => keeper.pid !== null)) {
      if (this.#interrupts.second.signal.aborted) break;
      await this.#pause();
    }
    const grace = this.#interrupts.second.signal.aborted ? 0 : 2000;
    await Promise.all(all.map((keeper) => keeper.stop(grace)));
  }
}

function ended(summary: RunSummary): RunEnd {
  if (summary.outcome !== "failed") return { kind: "ended", summary };
  const code = (summary.code ?? "LS_FAILED") as `LS_${string}`;
  return { kind: "failed", error: new LockstepError(code, summary.message ?? "The run failed.") };
}
