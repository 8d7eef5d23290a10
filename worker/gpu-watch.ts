import { execFile } from "node:child_process";
import { SMI_MOST_BYTES, SMI_PATIENCE_MILLIS, smiQuery, smiRows } from "../shared/process/nvidia-smi.ts";

/** What nvidia-smi says about one GPU, in base units; null where the device does not tell. */
export interface GpuReading {
  readonly index: string;
  readonly utilizationRatio: number | null;
  readonly memoryUsedBytes: number | null;
  readonly memorySizeBytes: number | null;
  readonly powerWatts: number | null;
  readonly temperatureCelsius: number | null;
  readonly smClockHertz: number | null;
  readonly memoryClockHertz: number | null;
  readonly uncorrectedErrors: number | null;
}

const FIELDS = [
  "index",
  "utilization.gpu",
  "memory.used",
  "memory.total",
  "power.draw",
  "temperature.gpu",
  "clocks.sm",
  "clocks.mem",
  "ecc.errors.uncorrected.volatile.total",
] as const;

/** Percent, MiB, MiB, W, degrees, MHz, MHz, errors: what each number is multiplied by. */
const SCALES = [0.01, 2 ** 20, 2 ** 20, 1, 1, 1e6, 1e6, 1] as const;

/** Arguments of nvidia-smi for these devices, as CUDA_VISIBLE_DEVICES names them. */
export const gpuQuery = (devices: string): string[] => [...smiQuery(FIELDS), `--id=${devices}`];

/** Reads nvidia-smi's answer: one line for each GPU; "[N/A]" and "[Not Supported]" are no figures. */
export function parseGpus(text: string): GpuReading[] {
  return smiRows(text, FIELDS).map(([index, ...cells]) => {
    const values = cells.map((cell, i) => (/^\d+(\.\d+)?$/.test(cell) ? Number(cell) * SCALES[i]! : null));
    const [utilization, used, size, power, temperature, sm, memory, errors] = values as (number | null)[];
    return {
      index: index!,
      utilizationRatio: utilization ?? null,
      memoryUsedBytes: used ?? null,
      memorySizeBytes: size ?? null,
      powerWatts: power ?? null,
      temperatureCelsius: temperature ?? null,
      smClockHertz: sm ?? null,
      memoryClockHertz: memory ?? null,
      uncorrectedErrors: errors ?? null,
    };
  });
}

const EVERY_MILLIS = 5000;

/** Asks nvidia-smi every few seconds about the GPUs of this process; without GPUs it never starts it. */
export class GpuWatch {
  #readings: readonly GpuReading[] = [];
  readonly #timer: NodeJS.Timeout | null = null;

  /**
   * @param devices CUDA_VISIBLE_DEVICES of this process: empty or -1 for a worker on the CPU
   * @param program nvidia-smi, or what stands for it
   */
  constructor(devices: string, program = "nvidia-smi", every = EVERY_MILLIS) {
    if (!/^\w[\w,-]*$/.test(devices)) return;
    const read = () => {
      execFile(
        program,
        gpuQuery(devices),
        { timeout: SMI_PATIENCE_MILLIS, maxBuffer: SMI_MOST_BYTES },
        (error, text) => {
          // A GPU that has fallen off the bus is not shown with its last figures.
          this.#readings = error === null ? parseGpus(text) : [];
        },
      );
    };
    read();
    this.#timer = setInterval(read, every);
    this.#timer.unref();
  }

  /** The newest figures; empty without a GPU. */
  get readings(): readonly GpuReading[] {
    return this.#readings;
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
  }
}
