import type { Command } from "commander";
import { usage } from "../../shared/config/options.ts";
import { LockstepError } from "../../shared/errors.ts";
import { obtainDataDirectory } from "../data/locations.ts";
import { cleanCache } from "../setup/clean.ts";
import { isUnpacked } from "../setup/library.ts";
import { ensureNatsServer } from "../setup/nats-server.ts";
import { Pack, setUpFrom } from "../setup/pack.ts";
import { writePack } from "../setup/pack-writer.ts";
import { cachePlaces, FLAVOURS, type Flavour } from "../setup/places.ts";
import { ensureRuntime } from "../setup/runtime.ts";
import { SetupDisplay } from "../setup/show.ts";

interface SetupCommandOptions {
  readonly cpu?: boolean;
  readonly gpu?: boolean;
  readonly clean?: boolean;
  readonly pack?: string;
  readonly withData?: boolean;
  readonly from?: string;
}

/** Adds `lockstep setup`. */
export function registerSetup(program: Command): void {
  program
    .command("setup")
    .description("prepare the native runtime and nats-server in the user's cache")
    .option("--cpu", "TensorFlow for the CPU (the default where nothing is set up)")
    .option("--gpu", "TensorFlow for NVIDIA GPUs, with CUDA 12: about 3.4 GB to fetch")
    .option(
      "--pack <directory>",
      "write all that a machine without a network needs into a folder; with --gpu also for GPUs",
    )
    .option("--with-data", "with --pack: the labelled part of STL-10 as well")
    .option("--from <directory>", "set up from such a folder, with no network; each file is checked")
    .option("--clean", "free the cache: runtimes, nats-server and downloads (data sets stay)")
    .action(async (options: SetupCommandOptions) => {
      const show = new SetupDisplay();
      const ways = (["clean", "pack", "from"] as const).filter((way) => options[way]);
      if (ways.length > 1) throw usage(`--${ways.join(" and --")} exclude each other.`);
      if (options.withData && !options.pack) throw usage("--with-data goes with --pack.");
      if (options.clean) return cleanCache(show);
      if (options.pack) return pack(show, options.pack, options);
      if (options.from) return from(show, options.from, options);
      for (const flavour of asked(options)) await ensureRuntime(show, { flavour });
      await natsIfPossible(show);
    });
}

async function pack(show: SetupDisplay, directory: string, options: SetupCommandOptions): Promise<void> {
  const data = options.withData
    ? (await obtainDataDirectory({ onMessage: (text) => show.message(text) })).directory
    : null;
  const named = FLAVOURS.filter((flavour) => options[flavour]);
  const hash = await writePack(show, directory, { flavours: named.length > 0 ? named : ["cpu"], data });
  show.message(`${directory} is ready; README.txt in it says what to do. SHA-256 of its list of files: ${hash}`);
}

async function from(show: SetupDisplay, directory: string, options: SetupCommandOptions): Promise<void> {
  const source = new Pack(directory);
  show.message(`SHA-256 of the pack's list of files: ${await source.sha256()}`);
  const named = FLAVOURS.filter((flavour) => options[flavour]);
  await setUpFrom(show, source, named);
}

/** What the options name; else what the cache holds, so that a new clone fetches nothing; else the CPU's. */
function asked(options: SetupCommandOptions): readonly Flavour[] {
  const named = FLAVOURS.filter((flavour) => options[flavour]);
  if (named.length > 0) return named;
  const here = FLAVOURS.filter((flavour) => isUnpacked(cachePlaces(flavour).runtime));
  return here.length > 0 ? here : ["cpu"];
}

/** Runs do without nats-server, which only broadcasts; so does a machine whose index lacks it or is out of reach. */
async function natsIfPossible(show: SetupDisplay): Promise<void> {
  try {
    await ensureNatsServer(show);
  } catch (error) {
    if (!(error instanceof LockstepError)) throw error;
    show.message(`No nats-server, so runs will not broadcast: ${error.toLine()}`);
  }
}
