import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { LineTail } from "../../deploy/up/line-tail.ts";
import { Probe } from "../../deploy/up/probe.ts";
import type { RunStatus } from "../../deploy/up/status.ts";
import { faultText } from "../../shared/faults/fault.ts";
import { STRIKES } from "../../shared/faults/strike.ts";
import { type Lockstep, lockstep } from "../up/support.ts";
import type { Cell } from "./cell.ts";
import type { QuietRun } from "./quiet-run.ts";

export type EventLine = Readonly<Record<string, unknown>> & { readonly type: string; readonly time: string };

/** Something did not happen in its time, or the run ended before it could. */
export class NotSeen extends Error {}

/** Long enough for a worker that dies, starts, loads and gets level on a busy machine. */
const PATIENCE = 120_000;
const POLL = 50;
/** A step of three workers takes a quarter of a second. */
const PACE = "slow:60";

/** A run of `lockstep up` with faults in it, observed by its files and by GetStatus. */
export class DisturbedRun {
  readonly out: string;
  readonly workers: number;
  readonly #up: Lockstep;
  readonly #rivals: Lockstep[] = [];
  /** Every process that comes is slowed, so that the run has steps left when faults take seconds. */
  #paced = true;
  readonly #probe: Probe;
  readonly #events: LineTail;
  readonly #steps: LineTail;
  readonly #logs = new Map<string, LineTail>();
  readonly #seen: EventLine[] = [];
  readonly #struck: { readonly process: string; readonly fault: string; readonly time: number }[] = [];
  #step = -1;
  ended: { readonly code: number | null } | null = null;

  constructor(
    quiet: Pick<QuietRun, "config" | "data" | "model">,
    out: string,
    workers: number,
    more: readonly string[] = [],
  ) {
    this.out = out;
    this.workers = workers;
    const args = [
      "up",
      "--config",
      quiet.config,
      "--data",
      quiet.data,
      "--model",
      quiet.model,
      "--out",
      out,
      "--workers",
      String(workers),
    ];
    this.#up = lockstep([...args, "--no-nats", "--worker-restarts", "100", ...more]);
    void this.#up.ended.then((end) => {
      this.ended = end;
    });
    this.#probe = Probe.ofDirectory(out, null);
    this.#events = new LineTail(join(out, "events.ndjson"));
    this.#steps = new LineTail(join(out, "steps.ndjson"));
  }

  get endedWell(): boolean {
    return this.ended?.code === 0;
  }

  get words(): string {
    return this.#up.err();
  }

  get step(): number {
    this.read();
    return this.#step;
  }

  /** Injects the cell's fault. Tried again while there is no such worker, or no coordinator. */
  async inject({ target, fault }: Cell): Promise<void> {
    await this.until(`${faultText(fault)} is taken by ${target}`, async () => {
      if (target !== "all") return this.tryToInject({ target, fault });
      for (const name of this.names) await this.tryToInject({ target: name, fault });
      return true;
    });
  }

  get names(): string[] {
    return Array.from({ length: this.workers }, (_, index) => `worker-${index}`);
  }

  /** The process that a target stands for now; null where there is none. */
  async #processOf(target: string): Promise<string | null> {
    if (target === "rival") return "coordinator";
    if (target !== "first") return target;
    const status = await this.#probe.status();
    return status?.workers.find(({ shards }) => shards.startsWith("0"))?.name ?? null;
  }

  /** Injects the fault if the process is there to take it. */
  async tryToInject({ target, fault }: Cell): Promise<boolean> {
    const name = await this.#processOf(target);
    if (name === null) return false;
    const answer = this.#probe.inject(name === "coordinator" ? "" : name, faultText(fault));
    return answer.then(
      () => true,
      () => false,
    );
  }

  /** How many injected faults have struck so far. */
  get struck(): readonly { readonly process: string; readonly fault: string; readonly time: number }[] {
    this.read();
    return this.#struck;
  }

  /** How often this fault has struck, by the word of the process itself. */
  strikes(fault: string, since: number): number {
    this.read();
    return this.#struck.filter((strike) => strike.fault === fault && strike.time >= since).length;
  }

  status(): Promise<RunStatus | null> {
    return this.#probe.status();
  }

  /** Events since a time, in milliseconds since 1970. */
  events(since = 0): EventLine[] {
    this.read();
    return this.#seen.filter(({ time }) => Date.parse(time) >= since);
  }

  /** Members lost since a time. */
  lost(since = 0): number {
    return this.events(since).filter(({ type, change }) => type === "worker" && change === "lost").length;
  }

  /** Views begun since a time. */
  views(since = 0): number {
    return this.events(since).filter(({ type }) => type === "view").length;
  }

  /** All workers compute and the run has moved on since. */
  async healed(): Promise<void> {
    const from = { step: -1 };
    await this.until("all workers compute again", async () => {
      const status = await this.status();
      const whole = status?.phase === "running" && this.#allCompute(status);
      if (!whole) from.step = -1;
      else if (from.step < 0) from.step = status.step;
      return whole === true && status!.step >= from.step + 2;
    });
  }

  #allCompute({ workers }: RunStatus): boolean {
    return workers.filter(({ state }) => state === "computing").length === this.workers;
  }

  /** @throws NotSeen where it does not come in time, or the run ends before */
  async until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = performance.now() + PATIENCE;
    for (;;) {
      this.read();
      if (await holds()) return;
      if (this.ended !== null)
        throw new NotSeen(`the run ended before this was seen: ${what} (${lastLine(this.words)})`);
      if (performance.now() > deadline) throw new NotSeen(`not within ${PATIENCE / 1000} s: ${what}`);
      await sleep(POLL);
    }
  }

  /** A second coordinator on the same directory, which nobody starts again. */
  startRival(): void {
    this.#rivals.push(lockstep(["coordinator", this.out, "--again"]));
  }

  /** From here on the run is as fast as it can be. */
  hurry(): void {
    this.#paced = false;
    for (const name of this.names) void this.#probe.inject(name, "slow").catch(() => {});
  }

  /** Waits for the end of the run. */
  async end(): Promise<number | null> {
    const deadline = sleep(PATIENCE + 60_000, null, { ref: false });
    const end = await Promise.race([this.#up.ended, deadline]);
    this.read();
    this.#probe.close();
    if (end === null) throw new NotSeen("the run does not end by itself");
    return end.code;
  }

  /** Ends the run, whatever it is doing; no process is left. */
  async abandon(): Promise<void> {
    for (const rival of this.#rivals) rival.signal("SIGKILL");
    this.#probe.close();
    if (this.ended !== null) return;
    this.#up.signal("SIGINT");
    this.#up.signal("SIGINT");
    await Promise.race([this.#up.ended, sleep(10_000, null, { ref: false })]);
    if (this.ended === null) this.#up.signal("SIGKILL");
  }

  read(): void {
    for (const event of this.#events.read() as EventLine[]) {
      this.#seen.push(event);
      if (event.type !== "worker" || event.change !== "connected" || !this.#paced) continue;
      void this.#probe.inject(String(event.name), PACE).catch(() => {});
    }
    this.#step = Number(this.#steps.read().at(-1)?.step ?? this.#step);
    for (const name of [...this.names, "coordinator"]) {
      const tail = this.#logs.get(name) ?? new LineTail(join(this.out, "logs", `${name}.log`));
      this.#logs.set(name, tail);
      for (const line of tail.read()) {
        if (line.msg !== STRIKES || String(line.fault).startsWith("slow")) continue;
        this.#struck.push({ process: name, fault: String(line.fault), time: Number(line.time) });
      }
    }
  }
}

export const lastLine = (text: string): string => text.trim().split("\n").at(-1) ?? "";
