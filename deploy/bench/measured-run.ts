import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Status } from "../../coordinator/account.ts";
import { LockstepError } from "../../shared/errors.ts";
import { BENCH_MODELS } from "../../worker/bench/step-bench.ts";
import { writeSynthetic } from "../data/synthetic.ts";
import { builtProgram } from "../up/built.ts";

/** A run of `lockstep up` whose steps are timed. */
export interface MeasuredRunOptions {
  /** A key of BENCH_MODELS. */
  readonly model: string;
  readonly precision: "float32" | "bf16";
  readonly batch: number;
  readonly shards: number;
  readonly workers: number;
  readonly steps: number;
  /** Shards follow speed after this many steps; null: they never move. */
  readonly balanceAfter?: number | null;
  /** More options of `up`. */
  readonly more?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Called every second with what the coordinator says of the run. */
  readonly watch?: (status: Status) => void;
}

/** One final step: when it was recorded, milliseconds since 1970. */
export interface TimedStep {
  readonly step: number;
  readonly time: number;
  readonly images: number;
}

export interface MeasuredRun {
  readonly steps: readonly TimedStep[];
  /** Lines of events.ndjson. */
  readonly events: readonly Record<string, unknown>[];
}

/** A directory with a generated data set of 96 x 96 images, in which runs are made and removed. */
export class MeasuredRuns {
  readonly #directory = mkdtempSync(join(tmpdir(), "lockstep-bench-"));
  readonly #data = join(this.#directory, "data");
  #runs = 0;

  /** @param images of the training set: with at least a step more than a run takes, nothing is stored on the way */
  async prepare(images: number): Promise<void> {
    await writeSynthetic(this.#data, { train: images, test: 10, classes: 10, side: 96, seed: 1 });
  }

  remove(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /**
   * A whole run from its first process to its last.
   * @throws LockstepError LS_BENCH with what it said where it failed
   */
  async run(options: MeasuredRunOptions): Promise<MeasuredRun> {
    const { model, precision, batch, shards, workers, steps, balanceAfter, more = [], env = {}, watch } = options;
    const out = join(this.#directory, `run-${this.#runs++}`);
    const { name, options: builder } = BENCH_MODELS[model]!;
    const recipe = `${out}.recipe.json`;
    writeFileSync(recipe, JSON.stringify({ model: { name, options: builder, statisticsMomentum: 0.9 } }));
    const place = {
      checkpoint: { everySteps: steps, keep: 1 },
      balance: typeof balanceAfter === "number" ? { gain: 0.02, steps: balanceAfter } : { gain: 1, steps: 1 },
    };
    const config = `${out}.config.json`;
    writeFileSync(config, JSON.stringify({ place }));
    const numbers = { batch, shards, workers, steps, precision, recipe, config, data: this.#data, out };
    const given = Object.entries(numbers).flatMap(([option, value]) => [`--${option}`, String(value)]);
    const args = ["up", ...given, "--no-eval", "--no-nats", "--pin", ...more];
    const watching =
      watch === undefined ? null : setInterval(() => void statusOf(out).then((s) => s && watch(s)), 1000);
    const { code, said } = await ended([builtProgram("deploy/cli/main.js"), ...args], env);
    if (watching !== null) clearInterval(watching);
    if (code !== 0) throw new LockstepError("LS_BENCH", `A measured run ended with exit code ${code}: ${said}`);
    const lines = (file: string) =>
      readFileSync(join(out, file), "utf8")
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as Record<string, unknown>);
    const timed = lines("steps.ndjson").map(({ step, time, images }) => ({
      step: Number(step),
      time: Date.parse(String(time)),
      images: Number(images),
    }));
    const events = lines("events.ndjson");
    rmSync(out, { recursive: true, force: true });
    return { steps: timed, events };
  }
}

/** Milliseconds of a step, the mean over all steps but the first ones: a step is timed from the one before it. */
export function stepMillis(steps: readonly TimedStep[], warmUp: number): number {
  const measured = steps.slice(warmUp);
  const [first, last] = [measured[0]!, measured.at(-1)!];
  return (last.time - first.time) / (measured.length - 1);
}

/** Null while the coordinator is not there. */
async function statusOf(run: string): Promise<Status | null> {
  try {
    const { http } = JSON.parse(readFileSync(join(run, "endpoints.json"), "utf8")) as { http: string };
    return (await (await fetch(`http://${http}/status.json`)).json()) as Status;
  } catch {
    return null;
  }
}

function ended(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<{ code: number; said: string }> {
  const child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, ...env } });
  let said = "";
  child.stderr.on("data", (text) => {
    said = (said + text).slice(-600);
  });
  return new Promise((resolve) => child.once("close", (code) => resolve({ code: code ?? 1, said })));
}
