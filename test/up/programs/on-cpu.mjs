// Loaded before every process of a test: a worker writes down what it was given, and computes on the CPU.
import { appendFileSync } from "node:fs";
import { isMainThread } from "node:worker_threads";

if (isMainThread && process.argv[1]?.endsWith("worker/main.js")) {
  const { CUDA_VISIBLE_DEVICES, CUDA_DEVICE_ORDER, TF_FORCE_GPU_ALLOW_GROWTH, TF_DETERMINISTIC_OPS } = process.env;
  const name = process.argv[process.argv.indexOf("--name") + 1];
  const given = { CUDA_VISIBLE_DEVICES, CUDA_DEVICE_ORDER, TF_FORCE_GPU_ALLOW_GROWTH, TF_DETERMINISTIC_OPS };
  appendFileSync(process.env.GIVEN, `${JSON.stringify({ name, pid: process.pid, ...given })}\n`);
  process.env.CUDA_VISIBLE_DEVICES = "-1";
}
