import { existsSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

/**
 * Which native library TensorFlow.js uses in this process. The package knows one place of its add-on; the one that is
 * linked to TensorFlow's GPU library lies beside it and serves the processes to which a GPU is shown.
 */
const require = createRequire(import.meta.url);
const PACKAGE = "@tensorflow/tfjs-node-gpu";

/** Places of the add-ons inside the package: where it looks itself, and ours for GPUs. */
export const ADDON_LINKS = { cpu: "lib/napi-v8/tfjs_binding.node", gpu: "lib/gpu/tfjs_binding.node" } as const;

/** The add-on for GPUs: the one that LOCKSTEP_GPU_ADDON names, else the one that set-up has linked; null without any. */
export function gpuAddon(env: NodeJS.ProcessEnv = process.env): string | null {
  const file = env.LOCKSTEP_GPU_ADDON || placeOf("gpu");
  return existsSync(file) ? file : null;
}

/** Whether a GPU is shown to this process. */
export function seesGpu(env: NodeJS.ProcessEnv = process.env): boolean {
  const visible = env.CUDA_VISIBLE_DEVICES ?? "-1";
  return visible !== "-1" && visible !== "";
}

/** The add-on of this process. */
export const addonInUse = (): string => (seesGpu() ? gpuAddon() : null) ?? placeOf("cpu");

/**
 * Loads TensorFlow.js with the add-on of this process: it finds it in the cache of modules, under the name of its own one.
 * @throws Error of the system where a library is missing or does not load
 */
export function requireTensorFlow(): unknown {
  const usual = placeOf("cpu");
  const chosen = addonInUse();
  // Without its own place the package complains itself.
  if (existsSync(usual) && realpathSync(usual) !== realpathSync(chosen)) {
    require(chosen);
    require.cache[realpathSync(usual)] = require.cache[realpathSync(chosen)];
  }
  return require(PACKAGE);
}

const placeOf = (which: keyof typeof ADDON_LINKS): string =>
  join(dirname(require.resolve(PACKAGE)), "..", ADDON_LINKS[which]);
