import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { computeEnvironment } from "../../worker/compute/tensorflow.ts";
import { describeEnd } from "./exit-meaning.ts";
import { Interrupts } from "./interrupts.ts";
import { errorOf, Keeper, type Over } from "./keeper.ts";
import { Reaper } from "./reaper.ts";
import type { RestartPolicy } from "./restart-policy.ts";

/** Several workers of one machine, one for each device. */
export interface GroupOptions {
  /** `cpu` or the index of a GPU, one for each worker. */
  readonly devices: readonly string[];
  /** Beginning of the workers' names: `name-gpu0`, `name-cpu0`. */
  readonly name: string;
  /** Program and arguments of a worker, without its name. */
  readonly command: readonly string[];
  /** Of each worker, beside what its device needs. */
  readonly env?: Readonly<Record<string, string>>;
  /** Where each worker's output goes. */
  readonly logs: string;
  readonly policy: RestartPolicy;
  /** How long workers may take to drain after the first signal, in milliseconds. */
  readonly drain: number;
  /** One sentence for people. */
  readonly note: (text: string) => void;
}

/** Names of the workers in the order of their devices. */
export const workerNames = (name: string, devices: readonly string[]): string[] =>
  devices.map((device, index) => (device === "cpu" ? `${name}-cpu${index}` : `${name}-gpu${device}`));

/**
 * Keeps one worker for each device until the run lets all of them go: starts again what crashes, with growing pauses.
 * SIGTERM, SIGINT or SIGHUP make all of them leave in order: each finishes its step and hands its shards over; a second
 * signal, or the end of the drain time, ends them at once.
 * @returns exit code: 0 where every worker was released or left in order
 * @throws LockstepError of the first worker that cannot work here, or was given up
 */
export async function keepWorkers(options: GroupOptions): Promise<number> {
  const { devices, command, logs, policy, drain, note } = options;
  mkdirSync(logs, { recursive: true });
  const reaper = new Reaper();
  const interrupts = new Interrupts();
  const ends: { readonly name: string; readonly over: Over }[] = [];
  let wake = () => {};
  const names = workerNames(options.name, devices);
  const keepers = names.map((name, index) => {
    const spec = {
      name,
      command: () => [...command, "--name", name],
      env: { ...options.env, ...computeEnvironment({ device: devices[index]!, threads: 1 }) },
      logFile: join(logs, `${name}.log`),
    };
    const over = (end: Over) => {
      ends.push({ name, over: end });
      if (end.kind === "refused") note(`${name} cannot work here (${describeEnd(end.end)}): ${end.words ?? ""}`);
      wake();
    };
    return new Keeper(spec, policy, reaper, { note, over });
  });
  const { first, second } = interrupts;
  const leave = () => {
    note("Asked to end: the workers finish their step, hand their shards over and leave; once more ends them at once.");
    for (const keeper of keepers) {
      keeper.forbidRestarts();
      keeper.signal("SIGTERM");
    }
  };
  first.signal.addEventListener("abort", leave);
  const drained = new Promise<void>((resolve) => {
    first.signal.addEventListener("abort", () => void setTimeout(resolve, drain).unref());
    second.signal.addEventListener("abort", () => resolve());
  });
  try {
    for (const keeper of keepers) keeper.start();
    while (!keepers.every(({ over }) => over !== null)) {
      const changed = new Promise<void>((resolve) => {
        wake = resolve;
      });
      if ((await Promise.race([changed.then(() => true), drained.then(() => false)])) === false) break;
    }
    const late = keepers.filter(({ pid }) => pid !== null).map(({ name }) => name);
    if (late.length > 0) note(`Ended before they had left: ${late.join(", ")}.`);
    await Promise.all(keepers.map((keeper) => keeper.stop(0)));
    if (first.signal.aborted) return late.length === 0 ? 0 : 1;
    return conclude(ends);
  } finally {
    interrupts.close();
    reaper.close();
  }
}

/** What all ends together mean. @throws LockstepError */
function conclude(ends: readonly { readonly name: string; readonly over: Over }[]): number {
  const bad = ends.find(({ over }) => over.kind === "refused") ?? ends.find(({ over }) => over.kind === "gaveUp");
  if (bad !== undefined) throw errorOf(bad.name, bad.over);
  return 0;
}
