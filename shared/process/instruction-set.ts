import { readFileSync } from "node:fs";

/** Values of ONEDNN_MAX_CPU_ISA, oldest first. Machines that differ share bits at the oldest one's. */
export const INSTRUCTION_SETS = [
  "SSE41",
  "AVX",
  "AVX2",
  "AVX512_CORE",
  "AVX512_CORE_VNNI",
  "AVX512_CORE_BF16",
  "AVX512_CORE_AMX",
] as const;
export type InstructionSet = (typeof INSTRUCTION_SETS)[number];

/** What kernels use on this processor: its newest instruction set, or what ONEDNN_MAX_CPU_ISA holds them to. */
export function instructionSet(): string {
  return process.env.ONEDNN_MAX_CPU_ISA ?? newestInstructionSet();
}

/** Whether the processor multiplies bfloat16 in hardware, and kernels may. */
export function multipliesBfloat16(name: string = instructionSet()): boolean {
  return (INSTRUCTION_SETS as readonly string[]).indexOf(name) >= INSTRUCTION_SETS.indexOf("AVX512_CORE_BF16");
}

/** What oneDNN will choose on this processor, read from its flags. */
function newestInstructionSet(): InstructionSet | "unknown" {
  let flags: Set<string>;
  try {
    flags = new Set(/^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1]?.trim().split(" "));
  } catch {
    return "unknown";
  }
  const has = (...names: string[]) => names.every((name) => flags.has(name));
  if (has("amx_tile", "amx_bf16")) return "AVX512_CORE_AMX";
  if (has("avx512_bf16")) return "AVX512_CORE_BF16";
  if (has("avx512_vnni")) return "AVX512_CORE_VNNI";
  if (has("avx512f", "avx512bw", "avx512dq", "avx512vl")) return "AVX512_CORE";
  return has("avx2") ? "AVX2" : has("avx") ? "AVX" : "SSE41";
}
