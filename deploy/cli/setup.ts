import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { LockstepError } from "../../shared/errors.ts";
import { ensureNatsServer } from "../setup/nats-server.ts";
import { cachePlaces } from "../setup/places.ts";
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
    .action(async (options: { gpu?: boolean; clean?: boolean }) => {
      if (options.clean) return clean();
      if (options.gpu) {
        throw new LockstepError("LS_GPU_SETUP", "The GPU runtime is not part of this version yet.", {
          hint: "Use `npx lockstep setup --cpu`.",
          exitCode: 3,
        });
      }
      const show = new SetupDisplay();
      await ensureRuntime(show);
      await ensureNatsServer(show);
    });
}

function clean(): void {
  const { cache } = cachePlaces();
  for (const part of ["runtime", "nats", "downloads"]) rmSync(join(cache, part), { recursive: true, force: true });
  process.stderr.write(`Freed runtime, nats-server and downloads in ${cache}.\n`);
}
