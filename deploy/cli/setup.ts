import type { Command } from "commander";
import { LockstepError } from "../../shared/errors.ts";
import { cleanCache } from "../setup/clean.ts";
import { ensureNatsServer } from "../setup/nats-server.ts";
import { ensureRuntime } from "../setup/runtime.ts";
import { SetupDisplay } from "../setup/show.ts";

/** Adds `lockstep setup`. */
export function registerSetup(program: Command): void {
  program
    .command("setup")
    .description("prepare the native runtime and nats-server in the user's cache")
    .option("--cpu", "TensorFlow for the CPU (the default)")
    .option("--gpu", "TensorFlow for NVIDIA GPUs")
    .option("--clean", "free the cache: runtime, nats-server and downloads (data sets stay)")
    .action(async (options: { cpu?: boolean; gpu?: boolean; clean?: boolean }) => {
      const show = new SetupDisplay();
      if (options.clean) return cleanCache(show);
      if (options.gpu) {
        throw new LockstepError("LS_GPU_SETUP", "The GPU runtime is not part of this version yet.", {
          hint: "Use `npx lockstep setup --cpu`.",
          exitCode: 3,
        });
      }
      await ensureRuntime(show);
      await natsIfPossible(show);
    });
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
