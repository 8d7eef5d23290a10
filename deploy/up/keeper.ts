import { LockstepError } from "../../shared/errors.ts";
import { Child, type ProcessSpec } from "./child.ts";
import { describeEnd, meaningOf, type ProcessEnd } from "./exit-meaning.ts";
import type { GroupWatch } from "./reaper.ts";
import { afterCrash, type RestartPolicy } from "./restart-policy.ts";

/** Why a process will not be started again. `words`: the last that it said. */
export type Over =
  | { readonly kind: "finished" }
  | { readonly kind: "stopped" }
  | { readonly kind: "refused" | "gaveUp"; readonly end: ProcessEnd; readonly words: string | null };

export interface KeeperEvents {
  /** One sentence for people. */
  note(text: string): void;
  over(over: Over): void;
  /** Whether it has done its work, however it ended. */
  isDone?(): boolean;
}

/** Keeps one process running: starts it again after a crash, as often as its policy allows. */
export class Keeper {
  over: Over | null = null;
  readonly name: string;
  readonly #spec: ProcessSpec;
  readonly #policy: RestartPolicy;
  readonly #groups: GroupWatch;
  readonly #events: KeeperEvents;
  #child: Child | null = null;
  #starts = 0;
  readonly #restarts: number[] = [];
  #pause: NodeJS.Timeout | null = null;
  #stopping = false;

  constructor(spec: ProcessSpec, policy: RestartPolicy, groups: GroupWatch, events: KeeperEvents) {
    this.name = spec.name;
    this.#spec = spec;
    this.#policy = policy;
    this.#groups = groups;
    this.#events = events;
  }

  get pid(): number | null {
    return this.#child?.running === true ? this.#child.pid : null;
  }

  start(): void {
    if (this.#stopping || this.over !== null) return;
    const child = new Child(this.#spec, this.#starts, this.#groups);
    this.#starts += 1;
    this.#child = child;
    void child.ended.then((end) => this.#onEnd(child, end));
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.signal(signal);
  }

  /** No restarts any more: whatever its end is, it is the last one. */
  forbidRestarts(): void {
    this.#stopping = true;
    if (this.#pause === null) return;
    clearTimeout(this.#pause);
    this.#pause = null;
    this.#finish({ kind: "stopped" });
  }

  /** Ends the process within `grace` milliseconds, first asking, then not. */
  async stop(grace: number): Promise<void> {
    this.forbidRestarts();
    await this.#child?.stop(grace);
  }

  #onEnd(child: Child, end: ProcessEnd): void {
    const meaning = meaningOf(end);
    const words = child.lastWords();
    if (meaning === "finished" || this.#events.isDone?.() === true) return this.#finish({ kind: "finished" });
    if (this.#stopping) return this.#finish({ kind: "stopped" });
    if (meaning === "refused") return this.#finish({ kind: "refused", end, words });
    const now = performance.now();
    const decision = afterCrash(this.#policy, this.#restarts, now);
    const why = `${describeEnd(end)}${words === null ? "" : `: ${words}`}`;
    if (decision.kind === "giveUp") {
      const times = decision.restarts === 0 ? "" : ` after ${decision.restarts} restarts`;
      this.#events.note(`${this.name} died (${why}) and is given up${times}; its log: ${this.#spec.logFile}`);
      return this.#finish({ kind: "gaveUp", end, words });
    }
    this.#events.note(`${this.name} died (${why}); starting it again in ${(decision.pause / 1000).toFixed(1)} s`);
    this.#restarts.push(now);
    this.#pause = setTimeout(() => {
      this.#pause = null;
      this.start();
    }, decision.pause);
  }

  #finish(over: Over): void {
    if (this.over !== null) return;
    this.over = over;
    this.#events.over(over);
  }
}

/** What the end of a process means for whoever needed it. `who`: how its sentence begins. */
export function errorOf(who: string, over: Over): LockstepError {
  if (over.kind !== "refused" && over.kind !== "gaveUp") return new LockstepError("LS_PROCESS", `${who} ended.`);
  const exitCode = over.kind === "refused" && (over.end.code === 2 || over.end.code === 3) ? over.end.code : 1;
  const said = /^(.*) \[(LS_[A-Z_0-9]+)\]$/.exec(over.words ?? "");
  // The process has said what is wrong in a sentence with a code: hand it on.
  if (said !== null) return new LockstepError(said[2] as `LS_${string}`, said[1]!, { exitCode });
  return new LockstepError(
    "LS_PROCESS",
    `${who} ended with ${describeEnd(over.end)}: ${over.words ?? "it said nothing"}`,
    { exitCode },
  );
}
