import { execFileSync } from "node:child_process";
import { usage } from "../../shared/config/options.ts";
import { LockstepError } from "../../shared/errors.ts";
import {
  GPU_COLUMNS,
  type Gpu,
  parseGpuList,
  SMI_MOST_BYTES,
  SMI_PATIENCE_MILLIS,
  smiQuery,
  visibleGpus,
} from "../../shared/process/nvidia-smi.ts";
import { gpuAddon } from "../../worker/compute/native-addon.ts";

/** What --devices asks for. */
export type DeviceRequest =
  | { readonly kind: "cpu"; readonly workers: number }
  | { readonly kind: "all" }
  | { readonly kind: "gpus"; readonly indexes: readonly string[] };

/** What nvidia-smi says: the GPUs that this process may use, or why there are none. */
export type GpuList = { readonly gpus: readonly Gpu[] } | { readonly reason: string };

const MOST_PROCESSES = 1024;

/** `cpu`, `cpu:N` (N workers on the CPU), `all`, or indexes of GPUs such as 0,1. @throws LockstepError LS_USAGE */
export function parseDevices(text: string): DeviceRequest {
  const cpu = /^cpu(?::(\d{1,4}))?$/.exec(text.trim());
  const workers = Number(cpu?.[1] ?? 1);
  if (cpu !== null && workers >= 1 && workers <= MOST_PROCESSES) return { kind: "cpu", workers };
  if (text.trim() === "all") return { kind: "all" };
  const indexes = text.split(",").map((device) => device.trim());
  const wellFormed = indexes.every((index) => /^(0|[1-9]\d{0,3})$/.test(index));
  if (wellFormed && new Set(indexes).size === indexes.length) return { kind: "gpus", indexes };
  throw usage(
    `--devices must be cpu, cpu:N for N processes, all, or indexes of GPUs such as 0,1, each once; it is "${text}".`,
  );
}

/** What this machine has for GPUs, and how a person is told what comes of it. */
export interface GpuFacts {
  list(): GpuList;
  /** Whether TensorFlow's GPU library is set up. */
  hasLibrary(): boolean;
  /** One sentence for people. */
  note(text: string): void;
}

/**
 * Where each process computes, `cpu` or the index of a GPU. A GPU is named only where there is one, and a library for it:
 * without this check TensorFlow would go on silently on the CPU.
 * @throws LockstepError LS_NO_GPU, LS_GPU_LIBRARY (exit code 3)
 */
export function chooseDevices(request: DeviceRequest, gpu: GpuFacts): string[] {
  if (request.kind === "cpu") return Array.from({ length: request.workers }, () => "cpu");
  const found = gpu.list();
  if ("reason" in found) throw noGpu(`${found.reason}.`);
  const there = found.gpus.map(({ index }) => index);
  const missing = request.kind === "all" ? [] : request.indexes.filter((index) => !there.includes(index));
  if (missing.length > 0)
    throw noGpu(`There is no GPU ${missing.join(", ")} for this process; there is ${there.join(", ")}.`);
  if (gpu.hasLibrary()) return request.kind === "all" ? there : [...request.indexes];
  const lack = "TensorFlow's library for GPUs is not set up";
  if (request.kind === "gpus") throw new LockstepError("LS_GPU_LIBRARY", `${lack}.`, { hint: SETUP, exitCode: 3 });
  gpu.note(`There is GPU ${there.join(", ")}, but ${lack}: computing on the CPU. ${SETUP}`);
  return ["cpu"];
}

const SETUP = "Run `npx lockstep setup --gpu` to use them.";

/** The devices that --devices names, on this machine. @throws LockstepError LS_USAGE, LS_NO_GPU, LS_GPU_LIBRARY */
export const devicesOf = (text: string): string[] =>
  chooseDevices(parseDevices(text), {
    list: listGpus,
    hasLibrary: () => gpuAddon() !== null,
    note: (sentence) => void process.stderr.write(`${sentence}\n`),
  });

/** Asks nvidia-smi, once, at the start of a command. */
export function listGpus(env: NodeJS.ProcessEnv = process.env): GpuList {
  let text: string;
  try {
    text = execFileSync("nvidia-smi", smiQuery(GPU_COLUMNS), {
      env,
      encoding: "utf8",
      timeout: SMI_PATIENCE_MILLIS,
      maxBuffer: SMI_MOST_BYTES,
      stdio: ["ignore", "pipe", "pipe"],
    });
  } catch (cause) {
    return { reason: complaintOf(cause as Failure) };
  }
  const all = parseGpuList(text);
  if (all.length === 0) return { reason: "nvidia-smi finds no GPU" };
  const gpus = visibleGpus(all, env.CUDA_VISIBLE_DEVICES);
  if (gpus.length > 0) return { gpus };
  return { reason: `CUDA_VISIBLE_DEVICES=${env.CUDA_VISIBLE_DEVICES} hides all ${all.length} GPUs` };
}

type Failure = NodeJS.ErrnoException & { readonly stderr?: string; readonly stdout?: string };

function complaintOf({ code, stdout, stderr, message }: Failure): string {
  if (code === "ENOENT") return "nvidia-smi is not on PATH";
  if (code === "ETIMEDOUT") return `nvidia-smi did not answer within ${SMI_PATIENCE_MILLIS / 1000} s`;
  const said = `${stdout ?? ""}\n${stderr ?? ""}`.split("\n").find((line) => line.trim() !== "") ?? message;
  return `nvidia-smi fails: ${said.trim().replace(/\.$/, "").slice(0, 300)}`;
}

const noGpu = (message: string) =>
  new LockstepError("LS_NO_GPU", message, {
    hint: "Use --devices cpu or cpu:N, or mend the driver (`npx lockstep doctor`); containers need NVIDIA_DRIVER_CAPABILITIES=compute,utility.",
    exitCode: 3,
  });
