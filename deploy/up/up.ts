import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { usage } from "../../shared/config/options.ts";
import { shardEfficiency } from "../../shared/config/resolve.ts";
import type { Config } from "../../shared/config/schema.ts";
import { LockstepError, sentenceOf } from "../../shared/errors.ts";
import { builtProgram, workerCommand } from "./built.ts";
import { concludeRun, reportOf } from "./conclusion.ts";
import { type Display, displayOn } from "./display.ts";
import { finalText, type RunSummary, resumeLine } from "./final-text.ts";
import { Interrupts } from "./interrupts.ts";
import { LineTail } from "./line-tail.ts";
import { MachineLines } from "./machine-lines.ts";
import { type NatsServer, startNats } from "./nats.ts";
import { onPath } from "./nats-program.ts";
import { isSecured, type NetworkOptions } from "./network-options.ts";
import { type PreparedRun, writeConfig } from "./prepare.ts";
import { monitoringHint, type PrometheusServer, startPrometheus } from "./prometheus.ts";
import { Reaper } from "./reaper.ts";
import { lockRun } from "./run-lock.ts";
import { secureNats } from "./secure-nats.ts";
import { Supervisor } from "./supervisor.ts";
import { percent } from "./text.ts";
import { checkTraceFile, traceFileOf } from "./trace-file.ts";
import { evaluationStart, runTimes } from "./wall-time.ts";

export interface UpOptions {
  /** `cpu`, or indexes of GPUs. */
  readonly devices: readonly string[];
  readonly workerRestarts: number;
  /** Path of nats-server, or the address of a server that runs; null: no broadcast. */
  readonly nats: { readonly program: string } | { readonly url: string } | null;
  /** Prometheus beside the run, where it is installed. */
  readonly monitoring: boolean;
  readonly json: boolean;
  /** false: all workers are those of other machines. */
  readonly localWorkers?: boolean;
  /** How the run's processes are reached. */
  readonly network: NetworkOptions;
  /** Where the run's authority, join line and pages' token lie; null: it makes its own. */
  readonly prepared?: string | null;
  /** Worker k on core k alone, for benchmarks. */
  readonly pin?: boolean;
  /** An earlier life of the run left its files. */
  readonly resumed: boolean;
  readonly programs?: Programs;
}

/** Program and first arguments of each process. */
export interface Programs {
  readonly coordinator: readonly string[];
  readonly worker: readonly string[];
  readonly conclusion: readonly string[];
}

const PROGRAMS = (): Programs => ({
  coordinator: [process.execPath, builtProgram("coordinator/main.js")],
  worker: workerCommand(),
  conclusion: [process.execPath, builtProgram("deploy/up/conclude-main.js")],
});

/**
 * One run on this machine, from the first process to the last word. Returns the exit code: 0 done, 130 interrupted.
 * @throws LockstepError for everything that went wrong, with its exit code.
 */
export async function up(prepare: (signal: AbortSignal) => Promise<PreparedRun>, options: UpOptions): Promise<number> {
  const started = Date.now();
  const display = displayOn(process.stderr);
  const interrupts = new Interrupts();
  const reaper = new Reaper();
  let nats: NatsServer | null = null;
  let prometheus: PrometheusServer | null = null;
  let unlock: (() => Promise<void>) | null = null;
  let directory: string | null = null;
  try {
    const prepared = await prepare(interrupts.first.signal);
    directory = prepared.directory;
    checkTraceFile(prepared.config.place);
    mkdirSync(join(directory, "logs"), { recursive: true });
    const lost = (error: Error) => {
      display.note(`The run was taken over by another process: ${error.message}.`);
      interrupts.second.abort();
    };
    unlock = await lockRun(directory, lost, (text) => display.note(text));
    await adopt(directory, prepared.config.place.listen, options);
    const { program, url } = { program: null, url: null, ...options.nats };
    if (program !== null) {
      const { runId, place } = prepared.config;
      const secured = isSecured(place.listen, options.network)
        ? await secureNats(directory, runId, place.listen, options.network)
        : null;
      nats = await startNats(
        program,
        join(directory, "logs", "nats.log"),
        reaper,
        (text) => display.note(text),
        secured,
      );
    }
    const config: Config = { ...prepared.config, place: { ...prepared.config.place, nats: nats?.url ?? url } };
    await prepared.begin?.();
    writeConfig(directory, config);
    introduce(display, prepared, config);
    if (options.monitoring) prometheus = await monitor(directory, reaper, display);
    return await train({ directory, config, options, started, display, interrupts, reaper });
  } catch (error) {
    if (options.json) printJson({ type: "summary", ...summaryIn(directory), ...failureOf(error) });
    if (!interrupts.any) throw error;
    display.end();
    // Whatever was cut short by the interruption is no failure of its own, but it is said.
    if (error instanceof LockstepError) process.stderr.write(`${error.toLine()}\n`);
    return 130;
  } finally {
    display.end();
    await Promise.all([nats?.keeper.stop(1000), prometheus?.keeper.stop(5000)]);
    await unlock?.();
    reaper.close();
    interrupts.close();
  }
}

interface Life {
  readonly directory: string;
  readonly config: Config;
  readonly options: UpOptions;
  readonly started: number;
  readonly display: Display;
  readonly interrupts: Interrupts;
  readonly reaper: Reaper;
}

async function train(life: Life): Promise<number> {
  const { directory, config, options, display, interrupts, reaper } = life;
  const programs = options.programs ?? PROGRAMS();
  const lines = options.json ? new MachineLines(directory, printJson, options.resumed) : null;
  if (options.json)
    printJson({
      type: "start",
      run: config.runId,
      directory,
      workers: config.place.workers,
      steps: config.recipe.steps,
    });
  const supervisor = new Supervisor({ ...options, directory, config, programs }, reaper, display, interrupts);
  const sayStop = () =>
    display.note("Stopping after the step under way, with a checkpoint; Ctrl-C again ends at once.");
  interrupts.first.signal.addEventListener("abort", sayStop);
  const end = await supervisor.run(() => lines?.pump());
  interrupts.first.signal.removeEventListener("abort", sayStop);
  const trained = Date.now();
  display.end();

  if (end.kind === "killed") {
    process.stderr.write(`Ended at once.\n${resumeLine(relative(".", directory) || ".")}\n`);
    if (options.json) printJson({ type: "summary", run: config.runId, outcome: "killed" });
    return 130;
  }
  if (end.kind === "failed") {
    writeSummary(directory, { run: config.runId, ...failureOf(end.error) });
    display.note(resumeLine(relative(".", directory) || "."));
    throw end.error;
  }
  let { summary } = end;
  const done = summary.outcome === "done";
  const evaluated = done && config.place.evaluation !== null;
  if (done) {
    display.note(evaluated ? "Writing model and report." : "Writing the model.");
    summary = await concludeRun({ directory, program: programs.conclusion, signal: interrupts.second.signal }, reaper);
  }
  const evaluating = evaluated
    ? (evaluationStart(new LineTail(join(directory, "events.ndjson")).read()) ?? trained)
    : null;
  const trace = traceFileOf(config.place, life.started);
  if (trace !== null) summary = { ...summary, trace };
  summary = { ...summary, ...runTimes(life.started, trained, evaluating, Date.now()) };
  writeSummary(directory, summary);
  return lastWords(life, summary);
}

function lastWords({ directory, options }: Life, summary: RunSummary): number {
  const shown = relative(".", directory) || ".";
  const report = summary.accuracy === null ? null : reportOf(shown);
  const text = [`Run ${summary.run} ${summary.outcome}.`, ...finalText(summary, report), `directory   ${shown}`];
  const interrupted = summary.outcome === "stopped";
  if (interrupted) text.push(resumeLine(shown));
  (options.json ? process.stderr : process.stdout).write(`${text.join("\n")}\n`);
  if (options.json) printJson({ type: "summary", ...summary });
  return interrupted ? 130 : 0;
}

/** Takes what was prepared for the run, before anything speaks for it. @throws LockstepError LS_USAGE, LS_PREPARED */
async function adopt(directory: string, listen: string, { prepared = null, network }: UpOptions): Promise<void> {
  if (prepared === null) return;
  if (!isSecured(listen, network))
    throw usage("--prepared is for runs that are secured: with --listen ADDRESS, or --tls always.");
  const { adoptPrepared } = await import("../../coordinator/security/prepared.ts");
  adoptPrepared(directory, prepared);
}

/** Prometheus beside the run; without it a sentence says what to do. */
async function monitor(directory: string, reaper: Reaper, display: Display): Promise<PrometheusServer | null> {
  const note = (text: string) => display.note(text);
  const program = onPath("prometheus");
  const server = program === null ? null : await startPrometheus({ program, directory, note }, reaper);
  if (program === null) note(monitoringHint(directory));
  if (server !== null)
    note(`Prometheus with rules and alerts: ${server.url}/alerts; dashboards: deploy/grafana/README.md`);
  return server;
}

/** What people should know before it starts. */
function introduce(display: Display, { directory, notes }: PreparedRun, { runId, recipe, place }: Config): void {
  const workers = `${place.workers} worker${place.workers === 1 ? "" : "s"}`;
  display.note(
    `Run ${runId}: ${recipe.model.name}, recipe ${recipe.recipe}, ${recipe.steps} steps of ${recipe.batch} images, ` +
      `${workers}, ${recipe.shards} shards, seed ${recipe.seed}; in ${relative(".", directory) || "."}`,
  );
  const efficiency = shardEfficiency(recipe.shards, Math.min(place.workers, recipe.shards));
  if (efficiency < 1) {
    display.note(
      `${workers} over ${recipe.shards} shards reach at most ${percent(efficiency)} of ideal speed: the largest range sets the pace.`,
    );
  }
  for (const note of notes) display.note(note);
}

/** summary.json keeps what the coordinator and the evaluator wrote; `up` alone knows when it started and what failed. */
function writeSummary(directory: string, more: object): void {
  const file = join(directory, "summary.json");
  writeFileSync(`${file}.partial`, `${JSON.stringify({ ...summaryIn(directory), ...more }, null, 2)}\n`);
  renameSync(`${file}.partial`, file);
}

function summaryIn(directory: string | null): object {
  try {
    return directory === null ? {} : (JSON.parse(readFileSync(join(directory, "summary.json"), "utf8")) as object);
  } catch {
    return {};
  }
}

function failureOf(error: unknown) {
  const known = error instanceof LockstepError ? error : null;
  return { outcome: "failed", code: known?.code ?? "LS_UNEXPECTED", message: known?.message ?? sentenceOf(error) };
}

/** One line for machines. */
export const printJson = (value: object) => void process.stdout.write(`${JSON.stringify(value)}\n`);
