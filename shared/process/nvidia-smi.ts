/** What nvidia-smi is asked with, and how its tables are read: all of Lockstep that looks at NVIDIA GPUs goes through here. */

/** A driver that hangs must not collect processes, nor hold up what waits for it, in milliseconds. */
export const SMI_PATIENCE_MILLIS = 4000;
/** A table of 64 GPUs has 10 KB; what is longer is no table. */
export const SMI_MOST_BYTES = 1 << 20;

/** Arguments that ask for these columns, as `nvidia-smi --help-query-gpu` names them. */
export const smiQuery = (columns: readonly string[]): string[] => [
  `--query-gpu=${columns.join(",")}`,
  "--format=csv,noheader,nounits",
];

/** The cells of a table's rows; lines of another number of cells are no rows ("No devices were found", warnings). */
export const smiRows = (text: string, columns: readonly string[]): string[][] =>
  text
    .slice(0, SMI_MOST_BYTES)
    .split("\n")
    .map((line) => line.split(",").map((cell) => cell.trim()))
    .filter((cells) => cells.length === columns.length);

/** One GPU of this machine. */
export interface Gpu {
  /** As nvidia-smi counts them, which is CUDA's order under CUDA_DEVICE_ORDER=PCI_BUS_ID. */
  readonly index: string;
  readonly uuid: string;
  readonly name: string;
  readonly driver: string;
  /** Bytes; null where the device does not tell. */
  readonly memory: number | null;
}

export const GPU_COLUMNS = ["index", "uuid", "driver_version", "memory.total", "name"] as const;

/** Reads the answer to a query for GPU_COLUMNS. */
export const parseGpuList = (text: string): Gpu[] =>
  smiRows(text, GPU_COLUMNS)
    .filter(([index]) => /^\d{1,4}$/.test(index!))
    .map(([index, uuid, driver, memory, name]) => ({
      index: index!,
      uuid: uuid!,
      driver: driver!,
      memory: /^\d+$/.test(memory!) ? Number(memory) * 2 ** 20 : null,
      name: name!,
    }));

/**
 * The GPUs that this process may use: CUDA_VISIBLE_DEVICES, where a scheduler has set it, names some by index or by the
 * beginning of their UUID; as in CUDA, what follows an unknown name does not count, and -1 or an empty text hides all.
 */
export function visibleGpus(gpus: readonly Gpu[], visible: string | undefined): Gpu[] {
  if (visible === undefined) return [...gpus];
  const found: Gpu[] = [];
  for (const name of visible.split(",").map((part) => part.trim())) {
    const gpu = gpus.find(({ index, uuid }) => index === name || (/^GPU-\w/.test(name) && uuid.startsWith(name)));
    if (gpu === undefined) break;
    if (!found.includes(gpu)) found.push(gpu);
  }
  return found;
}
