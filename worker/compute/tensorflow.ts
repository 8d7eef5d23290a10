import { cpus } from "node:os";
import util from "node:util";
import type * as tfTypes from "@tensorflow/tfjs-node-gpu";
import { LockstepError } from "../../shared/errors.ts";
import { type InstructionSet, instructionSet } from "../../shared/process/instruction-set.ts";
import { addonInUse, requireTensorFlow, seesGpu } from "./native-addon.ts";

/** TensorFlow.js on the native backend. */
export type TensorFlow = typeof tfTypes;

export interface ComputeDevice {
  /** `cpu`, or the index of a GPU as nvidia-smi counts them. */
  readonly device: string;
  readonly threads: number;
  /** Newest instruction set that kernels may use, as oneDNN names it, or null for what the processor has. */
  readonly instructionSet?: InstructionSet | null;
}

/**
 * Environment that must stand before the process starts: a thread's process.env is a copy that native code never sees.
 * Deterministic kernels everywhere; one visible GPU, since the add-on puts tensors on the last one it sees.
 */
export function computeEnvironment({
  device,
  threads,
  instructionSet: newest = null,
}: ComputeDevice): Record<string, string> {
  return {
    OMP_NUM_THREADS: String(threads),
    TF_NUM_INTRAOP_THREADS: String(threads),
    TF_NUM_INTEROP_THREADS: "1",
    TF_CPP_MIN_LOG_LEVEL: "2",
    TF_DETERMINISTIC_OPS: "1",
    TF_CUDNN_USE_FRONTEND: "1",
    TF_CUDNN_USE_AUTOTUNE: "0",
    NVIDIA_TF32_OVERRIDE: "0",
    CUDA_DEVICE_ORDER: "PCI_BUS_ID",
    CUDA_VISIBLE_DEVICES: device === "cpu" ? "-1" : device,
    TF_FORCE_GPU_ALLOW_GROWTH: "true",
    // glibc gives freed activations back to the system and faults them in again, thousands of pages a micro-batch, until it
    // has seen enough of them: a joiner's first step would be that much slower. It knows no larger threshold than 32 MiB.
    MALLOC_MMAP_THRESHOLD_: String(32 << 20),
    MALLOC_TRIM_THRESHOLD_: String(1 << 30),
    ...(newest === null ? {} : { ONEDNN_MAX_CPU_ISA: newest }),
  };
}

/**
 * Loads TensorFlow in this thread, to compute with it.
 * @throws LockstepError LS_RUNTIME where the native library or its add-on is missing or does not load, LS_GPU_UNUSED where it
 * does not use the GPU that was named.
 */
export const loadTensorFlow = (): TensorFlow => requireDevice(openTensorFlow());

/** Loads TensorFlow in this thread, whatever it then computes on. @throws LockstepError LS_RUNTIME */
export function openTensorFlow(): TensorFlow {
  // tfjs-node calls a function that Node 23 removed.
  const legacy = util as unknown as { isNullOrUndefined?: (value: unknown) => boolean };
  legacy.isNullOrUndefined ??= (value) => value === null || value === undefined;
  try {
    const tf = requireTensorFlow() as TensorFlow;
    tf.enableProdMode();
    return tf;
  } catch (cause) {
    throw new LockstepError(
      "LS_RUNTIME",
      `TensorFlow's native library does not load: ${(cause as Error).message.split("\n")[0]}.`,
      {
        hint: "Run `npx lockstep setup`, then `npx lockstep doctor`.",
        exitCode: 3,
        cause,
      },
    );
  }
}

/**
 * Holds the add-on in the calling thread as well. Where the only thread that loaded it ends, Node unloads it, and
 * TensorFlow's own threads then run into memory that is gone: a process that ends because of an error would end with a
 * segmentation fault instead of its exit code.
 */
export function keepLoaded(): void {
  try {
    process.dlopen({ exports: {} }, addonInUse());
  } catch {
    // It was never loaded: that is what the error is about.
  }
}

/** A process that was given a GPU must not go on silently on the CPU, where TensorFlow turns when it cannot use it. */
function requireDevice(tf: TensorFlow): TensorFlow {
  if (!seesGpu() || usesGpu(tf)) return tf;
  const visible = process.env.CUDA_VISIBLE_DEVICES;
  throw new LockstepError("LS_GPU_UNUSED", `TensorFlow does not use GPU ${visible}: it would compute on the CPU.`, {
    hint: "Run `npx lockstep setup --gpu` and see what `npx lockstep doctor` says of the driver and of CUDA's libraries.",
    exitCode: 3,
  });
}

export const usesGpu = (tf: TensorFlow): boolean =>
  (tf.backend() as unknown as { isUsingGpuDevice: boolean }).isUsingGpuDevice;

/** What explains the bits of this process, for people; the fingerprint decides. */
export function runtimeLabels(tf: TensorFlow): Record<string, string> {
  const backend = tf.backend() as unknown as { binding: { TF_Version?: string } };
  return {
    tensorflow: String(backend.binding.TF_Version ?? "unknown"),
    tfjs: tf.version_core,
    device: usesGpu(tf) ? "gpu" : "cpu",
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    instructionSet: instructionSet(),
    threads: process.env.OMP_NUM_THREADS ?? "default",
    node: process.version,
  };
}

/**
 * A float32 tensor over shared memory. It is bound at its first operation: from then on it shares the memory on the CPU
 * when its address is a multiple of 64, so that an update of the weights in place is seen at once, and is a copy
 * elsewhere; sharesMemory tells what this backend does.
 */
export function bindTensor(
  tf: TensorFlow,
  memory: WebAssembly.Memory,
  address: number,
  shape: number[],
): tfTypes.Tensor {
  const size = shape.reduce((product, extent) => product * extent, 1);
  return tf.tensor(new Float32Array(memory.buffer, address, size), shape, "float32");
}

/** Tries it out: does a tensor over this memory see later writes? `scratch`: 64 writable bytes, 64-byte aligned. */
export function sharesMemory(tf: TensorFlow, memory: WebAssembly.Memory, scratch: number): boolean {
  const view = new Float32Array(memory.buffer, scratch, 16);
  view.fill(1);
  return tf.tidy(() => {
    const tensor = bindTensor(tf, memory, scratch, [16]);
    const before = tensor.add(0).dataSync()[0];
    view.fill(2);
    const after = tensor.add(0).dataSync()[0];
    view.fill(0);
    return before === 1 && after === 2;
  });
}
