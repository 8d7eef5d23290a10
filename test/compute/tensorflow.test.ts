import { expect, test } from "vitest";
import { bindTensor, computeEnvironment, runtimeLabels, sharesMemory } from "../../worker/compute/tensorflow.ts";
import { tensorflow } from "./support.ts";

const tf = tensorflow();

test("a tensor over aligned WebAssembly memory shares it, over unaligned memory it is a copy", () => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  expect(sharesMemory(tf, memory, 0)).toBe(true);
  expect(sharesMemory(tf, memory, 1024)).toBe(true);
  expect(sharesMemory(tf, memory, 16)).toBe(false);
  expect(new Uint8Array(memory.buffer).every((byte) => byte === 0)).toBe(true);
  const view = new Float32Array(memory.buffer, 64, 6).fill(3);
  const tensor = bindTensor(tf, memory, 64, [2, 3]);
  expect([...tensor.square().dataSync()]).toEqual([9, 9, 9, 9, 9, 9]);
  view[4] = 5;
  expect([...tensor.square().dataSync()]).toEqual([9, 9, 9, 9, 25, 9]);
});

test("the environment pins threads, device and kernels", () => {
  expect(computeEnvironment({ device: "cpu", threads: 2 })).toMatchObject({
    OMP_NUM_THREADS: "2",
    TF_NUM_INTRAOP_THREADS: "2",
    TF_NUM_INTEROP_THREADS: "1",
    TF_DETERMINISTIC_OPS: "1",
    CUDA_VISIBLE_DEVICES: "-1",
  });
  expect(computeEnvironment({ device: "cpu", threads: 1 })).not.toHaveProperty("ONEDNN_MAX_CPU_ISA");
  const gpu = computeEnvironment({ device: "3", threads: 1, instructionSet: "AVX2" });
  expect(gpu).toMatchObject({ CUDA_VISIBLE_DEVICES: "3", CUDA_DEVICE_ORDER: "PCI_BUS_ID", NVIDIA_TF32_OVERRIDE: "0" });
  expect(gpu.ONEDNN_MAX_CPU_ISA).toBe("AVX2");
});

test("labels say what explains the bits", () => {
  const labels = runtimeLabels(tf);
  expect(labels.tensorflow).toMatch(/^2\.\d+\.\d+/);
  expect(labels).toMatchObject({ tfjs: tf.version_core, device: "cpu", threads: "1", node: process.version });
  expect(labels.instructionSet).toMatch(/^(SSE41|AVX)/);
});
