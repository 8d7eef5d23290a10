import { resolve } from "node:path";
import { type Command, Option } from "commander";
import { MODELS } from "../../shared/config/models.ts";
import { parseRunOptions, usage } from "../../shared/config/options.ts";
import { recipeHelp } from "../../shared/config/recipes/document.ts";
import { RECIPES } from "../../shared/config/recipes/index.ts";
import { LockstepError } from "../../shared/errors.ts";
import { isLoopback, parsePageAddress } from "../../shared/process/addresses.ts";
import { DEFAULT_TRACE_STEPS } from "../../shared/trace/part.ts";
import { devicesOf } from "../up/devices.ts";
import { upFolds } from "../up/folds.ts";
import { goOn } from "../up/go-on.ts";
import { natsProgram } from "../up/nats-program.ts";
import { networkOf, networkOptions, type RawNetworkOptions, shareOption, tlsOption } from "../up/network-options.ts";
import { prepareRun } from "../up/prepare.ts";
import { WORKER_POLICY } from "../up/restart-policy.ts";
import { stay } from "../up/stay.ts";
import { type UpOptions, up } from "../up/up.ts";

/** Options of `up` and `resume` that say how it runs here and have no place in config.json. */
export interface HereOptions extends RawNetworkOptions {
  readonly devices: string;
  readonly workerRestarts: string;
  readonly nats: string | boolean;
  readonly monitoring?: boolean;
  readonly prepared?: string;
  readonly json?: boolean;
  readonly localWorkers?: boolean;
  readonly pin?: boolean;
}

/** Adds `lockstep up`. */
export function registerUp(program: Command): void {
  const command = recipeOptions(program.command("up"), "the recipe's")
    .description("train on this machine: NATS, coordinator, workers, evaluation")
    .option(
      "--workers <n>",
      "worker processes, one core or GPU each (default: cores or GPUs, at most shards, as memory allows)",
    )
    .option("--min-workers <n>", "workers without which the run waits (default: 1)")
    .option(
      "--data <directory>",
      "data set in STL-10's layout (default: LOCKSTEP_DATA, else the cache, else it is fetched)",
    )
    .option("--out <directory>", "the run's directory (default: runs/<run id>)")
    .option("--no-eval", "no evaluation at the end (default: evaluate)")
    .option("--exchange <how>", "all, or none: compute and throw the gradients away, to measure (default: all)")
    .option(
      "--validate-every <e>",
      "with --hold-out: epochs between validations on the held-out images, 0 for none (default: a twentieth of the run, at least 1)",
    )
    .option("--temperature-from <run>", "a run with --hold-out, to whose held-out images the report fits a temperature")
    .option(
      "--listen <address>",
      "where coordinator and workers listen, also for workers of other machines: an address, or 0.0.0.0 for all (default: 127.0.0.1)",
    )
    .option("--config <file>", "options by their names, or the config.json of another run; options above beat it");
  command.addHelpText("after", recipeHelp());
  hereOptions(command)
    .option("--folds", "STL-10's protocol: a run for each fold of the data set; mean and spread", false)
    .option(
      "--continue",
      "go on with the run in --out where there is one: for service managers, which give one command at every start",
      false,
    )
    .option("--stay", "stay when the run has reached its end, so that its files can be fetched, until SIGTERM", false)
    .addOption(new Option("--demo", "without network: go on with a generated set").hideHelp())
    .action(async (raw: Record<string, unknown> & HereOptions, self: Command) => {
      // Commander gives every --no-x a value; only what a person typed may beat the --config file.
      const typed = self.getOptionValueSource("eval") === "cli" ? raw : { ...raw, eval: undefined };
      const options = parseRunOptions(typed);
      const here = hereOf(raw);
      const extras = { demo: raw.demo === true, network: here.network, devices: here.devices };
      const goesOn = raw.continue === true;
      if (goesOn && raw.folds === true) throw usage("--continue and --folds exclude each other.");
      const train = () =>
        raw.folds === true
          ? upFolds(options, extras, here)
          : up((signal) => prepareRun(options, extras, signal), { ...here, resumed: false });
      const code = (goesOn ? await goOn(options, here) : null) ?? (await train());
      process.exitCode = code;
      if (raw.stay === true && code === 0) await stay((text) => void process.stderr.write(`${text}\n`));
    });
}

/** The options that touch bits. `otherwise`: where a value comes from that is not given. */
export function recipeOptions(command: Command, otherwise: string): Command {
  const rest = `(default: ${otherwise})`;
  return command
    .option("--model <name|file>", `${MODELS.join(", ")}, or ./file.js with a model of your own ${rest}`)
    .option("--recipe <name|file>", `${Object.keys(RECIPES).join(", ")}, or a JSON file of settings`)
    .option("--epochs <e>", `length of the run in epochs ${rest}`)
    .option("--steps <s>", "length of the run in steps, instead of --epochs")
    .option("--batch <b>", `images of one step over all shards ${rest}`)
    .option("--lr <x>", `peak learning rate ${rest}`)
    .option("--seed <k>", `seed of all randomness ${rest}`)
    .option("--shards <v>", `slices of the training set, which bound the workers that help ${rest}`)
    .option("--hold-out <part>", `part of the training images to evaluate on instead of the test images ${rest}`)
    .option("--patience <n>", `with --hold-out: validations without a better one that end the run at its best ${rest}`)
    .option("--fold <k>", `train on fold K of the data set alone, evaluate on the test images ${rest}`)
    .option("--precision <p>", `auto, float32 or bf16 ${rest}`)
    .option("--execution <mode>", `auto, eager or graph ${rest}`);
}

/** The options that `up` and `resume` share. */
export function hereOptions(command: Command): Command {
  return networkOptions(command)
    .addOption(tlsOption())
    .addOption(shareOption())
    .option(
      "--prepared <directory>",
      "the run's authority, join line and pages' token, made beforehand: npx lockstep token prepare (default: its own)",
    )
    .addOption(
      new Option(
        "--devices <list>",
        "cpu, all (one worker for each GPU), or indexes of GPUs (0,1), which workers take in turn",
      ).default("cpu", "cpu"),
    )
    .addOption(
      new Option("--worker-restarts <n>", "how often a crashed worker is started again").default(
        String(WORKER_POLICY.most),
        String(WORKER_POLICY.most),
      ),
    )
    .option("--no-local-workers", "start none here: the run waits for --workers of other machines (see --listen)")
    .option("--nats <url>", "a NATS server that runs already (default: one of its own)")
    .option("--no-nats", "no broadcast (default: broadcast)")
    .option("--trace <file>", "a trace of all workers at the end, for ui.perfetto.dev or chrome://tracing")
    .option("--trace-steps <n>", `newest steps of each worker that the trace shows (default: ${DEFAULT_TRACE_STEPS})`)
    .option("--monitoring", "Prometheus with rules and alerts beside the run, where it is installed", false)
    .option("--json", "one JSON object per line on stdout, the summary last; people's text on stderr", false)
    .addOption(new Option("--pin", "worker k on core k alone, for benchmarks").hideHelp());
}

/** @throws LockstepError LS_USAGE, LS_NOT_LOOPBACK */
export function hereOf(raw: HereOptions): Omit<UpOptions, "resumed"> {
  const network = networkOf(raw);
  if (raw.monitoring === true && network.http !== null && !isLoopback(parsePageAddress(network.http).host))
    throw usage(
      "--monitoring asks pages of this machine alone; with --http, have a Prometheus of your own do it: deploy/prometheus/README.md says how.",
    );
  if (raw.prepared !== undefined && network.certificates.length > 0)
    throw usage("--prepared is for runs without certificates of your own.");
  return {
    prepared: raw.prepared === undefined ? null : resolve(raw.prepared),
    devices: devicesOf(raw.devices),
    workerRestarts: countOf("--worker-restarts", raw.workerRestarts),
    nats: natsOf(raw.nats, network.insecure),
    monitoring: raw.monitoring === true,
    json: raw.json === true,
    network,
    localWorkers: raw.localWorkers !== false,
    pin: raw.pin === true,
  };
}

/** @throws LockstepError LS_USAGE */
export function countOf(name: string, text: string): number {
  if (/^\d{1,6}$/.test(text)) return Number(text);
  throw usage(`${name} must be a whole number of at least 0; it is "${text}".`);
}

function natsOf(value: string | boolean, insecure: boolean): UpOptions["nats"] {
  if (value === false) return null;
  if (typeof value !== "string") {
    const program = natsProgram();
    if (program === null)
      process.stderr.write("nats-server is missing, so nothing is broadcast. Run `npx lockstep setup`.\n");
    return program === null ? null : { program };
  }
  const address = /^(?:nats:\/\/)?(\[[0-9a-f:]+\]|[^:/]+):(\d+)$/i.exec(value);
  if (address === null) throw usage(`--nats must be an address such as nats://127.0.0.1:4222; it is "${value}".`);
  const host = address[1]!.replace(/^\[|\]$/g, "");
  if (!isLoopback(host) && !insecure)
    throw new LockstepError(
      "LS_NOT_LOOPBACK",
      `--nats: ${host} is not this machine, and nothing secures the way there.`,
      {
        hint: "Leave --nats out: the run's own server is secured where --listen lets others in.",
        exitCode: 2,
      },
    );
  return { url: `nats://${address[1]}:${address[2]}` };
}
