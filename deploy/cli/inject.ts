import { type Command, Option } from "commander";
import { usage } from "../../shared/config/options.ts";
import { LockstepError } from "../../shared/errors.ts";
import {
  COORDINATOR_FAULTS,
  COORDINATOR_MOMENTS,
  type Fault,
  faultText,
  MOST_MILLIS,
  parseFault,
  suitsCoordinator,
  suitsWorker,
  WORKER_FAULTS,
  WORKER_MOMENTS,
} from "../../shared/faults/fault.ts";
import { runDirectory } from "../up/prepare.ts";
import { Probe } from "../up/probe.ts";

interface InjectOptions {
  readonly worker?: string;
  readonly coordinator?: boolean;
  readonly at?: string;
  readonly millis: string;
}

const HINT = "See `npx lockstep inject --help`.";
const WORDS = `
Faults of a worker:
${listOf(WORKER_FAULTS)}
Moments of a worker, for --at:
${listOf(WORKER_MOMENTS)}
Faults of the coordinator: ${Object.keys(COORDINATOR_FAULTS).join(", ")}. Moments:
${listOf(COORDINATOR_MOMENTS)}`;

/** Adds `lockstep inject RUN FAULT`: the same faults that the tests use, on a cluster of one's own. */
export function registerInject(program: Command): void {
  program
    .command("inject")
    .description("do to a process of a running cluster what a bad day would do")
    .argument("<run>", "the run's directory, or its id below runs/")
    .argument("<fault>", Object.keys(WORKER_FAULTS).join(", "))
    .addOption(new Option("--worker <name>", "which worker, by the name that `status` shows").conflicts("coordinator"))
    .option("--coordinator", "the coordinator instead of a worker")
    .option("--at <moment>", "when (default: now)")
    .option("--millis <n>", "freeze: how long; slow: how much longer each micro-batch takes", "0")
    .addHelpText("after", WORDS)
    .action(async (run: string, name: string, options: InjectOptions) => {
      const target = options.coordinator === true ? "" : options.worker;
      if (target === undefined) throw usage("Say which process: --worker NAME or --coordinator.", HINT);
      const text = faultText(faultOf(name, options));
      process.stdout.write(`${await inject(runDirectory(run), target, text)}\n`);
    });
}

/** @throws LockstepError LS_USAGE */
function faultOf(name: string, { coordinator, at, millis }: InjectOptions): Fault {
  if (!/^\d{1,7}$/.test(millis) || Number(millis) > MOST_MILLIS)
    throw usage(`--millis must be a whole number of at most ${MOST_MILLIS}; it is "${millis}".`, HINT);
  const text = `${name}${Number(millis) > 0 ? `:${Number(millis)}` : ""}${at === undefined ? "" : `@${at}`}`;
  const fault = parseFault(text);
  const suits = coordinator === true ? suitsCoordinator : suitsWorker;
  if (fault !== null && suits(fault)) return fault;
  const who = coordinator === true ? "A coordinator" : "A worker";
  throw usage(`${who} cannot have the fault "${name}"${at === undefined ? "" : ` at the moment "${at}"`}.`, HINT);
}

/** @throws LockstepError LS_NO_ANSWER */
async function inject(directory: string, target: string, fault: string): Promise<string> {
  const probe = Probe.ofDirectory(directory, null);
  try {
    return await probe.inject(target, fault);
  } catch (cause) {
    throw new LockstepError("LS_NO_ANSWER", `The coordinator says: ${(cause as Error).message}.`, {
      hint: "See `npx lockstep status`.",
      cause,
    });
  } finally {
    probe.close();
  }
}

function listOf(names: Readonly<Record<string, string>>): string {
  return Object.entries(names)
    .map(([name, words]) => `  ${name.padEnd(14)} ${words}`)
    .join("\n");
}
