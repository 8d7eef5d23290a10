import { existsSync } from "node:fs";
import { constants, setPriority } from "node:os";
import { join } from "node:path";
import type { Command } from "commander";
import { listen } from "../../shared/broadcast/listener.ts";
import { watchAccess } from "../../shared/broadcast/nats-file.ts";
import { LockstepError } from "../../shared/errors.ts";
import { newsLine } from "../up/news-lines.ts";
import { readRunConfig, runDirectory } from "../up/prepare.ts";
import { Probe, readEndpoints } from "../up/probe.ts";
import { latestRun } from "../up/runs.ts";

const LOOK_MILLIS = 2000;

interface WatchOptions {
  readonly run?: string;
  readonly credentials?: string;
  readonly json: boolean;
  readonly copies: boolean;
}

/** Adds `lockstep watch [RUN or URL]`. */
export function registerWatch(program: Command): void {
  program
    .command("watch")
    .description("follow a run, or all runs of a NATS server: steps, epochs, events as they are broadcast")
    .argument("[run]", "the run's directory, its id, or nats://host:port for all runs there (default: the newest run)")
    .option("--credentials <file>", "from another machine: a copy of security/watch.json of a secured run's directory")
    .option("--run <id>", "with a NATS address: this run alone")
    .option("--json", "print each message as one JSON object, with its kind", false)
    .option("--copies", "show every member's copy of a step, not only the first", false)
    .action(async (target: string | undefined, options: WatchOptions) => watch(target, options));
}

async function watch(target: string | undefined, options: WatchOptions): Promise<void> {
  // On a machine that trains it is not what training waits for.
  setPriority(constants.priority.PRIORITY_LOW);
  const stop = new AbortController();
  const onSignal = () => stop.abort();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, onSignal);
  const { url, run, directory, access } = sourceOf(target, options);
  const look = directory === null ? null : endWithRun(directory, run!, stop);
  try {
    for await (const news of listen({ url, access, run, signal: stop.signal, everyCopy: options.copies })) {
      const line = options.json ? JSON.stringify({ kind: news.kind, ...news.message }) : newsLine(news, run === null);
      if (line !== null) process.stdout.write(`${line}\n`);
      const { kind, message } = news;
      if (run !== null && kind === "event" && message.type === "phase" && message.phase === "finished") break;
    }
  } finally {
    if (look !== null) clearInterval(look);
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.off(signal, onSignal);
  }
}

function sourceOf(target: string | undefined, options: WatchOptions) {
  if (options.credentials !== undefined) {
    const { url, access } = watchAccess(options.credentials);
    return { url, access, run: options.run ?? null, directory: null };
  }
  const address = /^(?:nats:\/\/)?([^/]+:\d+)\/?$/.exec(target ?? "");
  if (address !== null && !existsSync(target!))
    return { url: `nats://${address[1]}`, access: null, run: options.run ?? null, directory: null };
  const directory = target === undefined ? latestRun() : runDirectory(target);
  const { runId } = readRunConfig(directory);
  const url = readEndpoints(directory)?.nats ?? null;
  const access = url?.startsWith("tls://") ? watchAccess(join(directory, "security", "watch.json")).access : null;
  if (url !== null) return { url, access, run: runId, directory };
  throw new LockstepError("LS_NO_BROADCAST", `The run in ${directory} is not running, or broadcasts nothing.`, {
    hint: `See where it stands with: npx lockstep status ${directory}`,
  });
}

/** The NATS server of a run ends with it; a client would wait for it for ever. */
function endWithRun(directory: string, run: string, stop: AbortController): NodeJS.Timeout {
  const probe = Probe.ofDirectory(directory, run);
  stop.signal.addEventListener("abort", () => probe.close());
  return setInterval(async () => {
    if (existsSync(join(directory, "summary.json")) && (await probe.status()) === null) stop.abort();
  }, LOOK_MILLIS);
}
