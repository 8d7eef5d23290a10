import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Short, so that whoever is held back is held back for milliseconds. */
const PERIOD_MICROS = 20_000;

/** Where processes get a share of the processor, and how that is written. */
interface Controller {
  readonly mount: string;
  /** File and content that give so many microseconds of each period; null: as many as there are. */
  quota(micros: number | null): readonly (readonly [file: string, content: string])[];
}

/**
 * A control group of the kernel whose processes get at most so much of a core together: hosts that share one machine's
 * cores are each as fast as they would be alone, and another one adds its own.
 */
export class CpuShare {
  readonly #controller: Controller;
  readonly #directory: string;

  private constructor(controller: Controller, name: string) {
    this.#controller = controller;
    this.#directory = join(controller.mount, name);
  }

  /** @param cores for example 0.4. Null where this system, or this user, has no such groups */
  static make(name: string, cores: number): CpuShare | null {
    const controller = controllerHere();
    if (controller === null) return null;
    const share = new CpuShare(controller, name);
    try {
      mkdirSync(share.#directory);
      share.#set(cores);
      return share;
    } catch {
      share.remove();
      return null;
    }
  }

  /** Program and arguments that run a command inside. */
  on(command: readonly string[]): string[] {
    const enter = `echo $$ > ${join(this.#directory, "cgroup.procs")} && exec "$@"`;
    return ["/bin/sh", "-c", enter, "sh", ...command];
  }

  /** Its processes take what they can get from now on. */
  lift(): void {
    this.#set(null);
  }

  /** When all of its processes have ended. */
  remove(): void {
    try {
      rmdirSync(this.#directory);
    } catch {
      // Somebody is in it still: an empty group costs nothing and is gone with the next start of the system.
    }
  }

  #set(cores: number | null): void {
    const micros = cores === null ? null : Math.round(cores * PERIOD_MICROS);
    for (const [file, content] of this.#controller.quota(micros)) {
      const path = join(this.#directory, file);
      // A folder that is no control group would take any file.
      if (!existsSync(path)) throw new Error(`there is no ${path}`);
      writeFileSync(path, content);
    }
  }
}

/** Of either version of the kernel's interface. */
function controllerHere(): Controller | null {
  const mounts = readFileSync("/proc/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" "));
  const first = mounts.find(([, , type, options]) => type === "cgroup" && options?.split(",").includes("cpu"));
  if (first !== undefined) {
    const period = ["cpu.cfs_period_us", String(PERIOD_MICROS)] as const;
    return { mount: first[1]!, quota: (micros) => [period, ["cpu.cfs_quota_us", String(micros ?? -1)]] };
  }
  const second = mounts.find(([, , type]) => type === "cgroup2");
  if (second === undefined) return null;
  return { mount: second[1]!, quota: (micros) => [["cpu.max", `${micros ?? "max"} ${PERIOD_MICROS}`]] };
}
