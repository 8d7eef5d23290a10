import { existsSync, mkdirSync, renameSync, rmSync, statfsSync } from "node:fs";
import { dirname, join } from "node:path";
import prettyBytes from "pretty-bytes";
import { LockstepError } from "../../shared/errors.ts";
import { LIBRARIES } from "./addon.ts";
import type { CachePlaces } from "./places.ts";
import type { SetupDisplay } from "./show.ts";
import { unpackWheel } from "./wheel.ts";
import type { WheelSource } from "./wheel-source.ts";
import { bytesOf, type RuntimeWheels } from "./wheels.ts";

/** The C interface and what its headers include; the rest of the wheel's headers, 280 MB, serves C++ alone. */
const HEADERS =
  /^tensorflow\/(include\/(?:tensorflow\/c|tensorflow\/core\/platform\/ctstring|tsl\/platform\/ctstring|xla\/tsl\/c)[^.]*\.h)$/;
/** CUDA's shared libraries, and the assembler and device code with which TensorFlow compiles kernels on the way. */
const CUDA = /^nvidia\/(?:[^/]+\/lib\/[^/]+\.so[.\d]*|cuda_nvcc\/(?:bin\/ptxas|nvvm\/libdevice\/[^/]+))$/;
const MEGABITS = 50;

/** A folder gets its name when it is whole, so that one library stands for all. */
export const isUnpacked = (runtime: string): boolean => existsSync(join(runtime, "tensorflow", LIBRARIES[0]));

/**
 * Obtains all wheels of a runtime, then unpacks them beside its place and moves them there in one go. What was fetched
 * before an interruption is not fetched again.
 * @throws LockstepError LS_DISK_FULL before anything is fetched, LS_RUNTIME_MISSING, LS_WHEEL and those of the source
 */
export async function placeLibrary(
  show: SetupDisplay,
  { wheels, unpackedBytes }: RuntimeWheels,
  { cache, runtime }: CachePlaces,
  source: WheelSource,
  signal: AbortSignal,
): Promise<void> {
  const toFetch = source.toFetch(wheels);
  announce(show, cache, toFetch, bytesOf(wheels), unpackedBytes);
  requireRoom(cache, toFetch + unpackedBytes);
  const temporary = `${runtime}.${process.pid}.partial`;
  const files: string[] = [];
  for (const wheel of wheels) files.push(await source.obtain(wheel, show, signal));
  show.message("Unpacking.");
  try {
    for (const file of files) await unpackWheel(file, temporary, placeOf, signal);
    if (!isUnpacked(temporary)) {
      throw new LockstepError("LS_RUNTIME_MISSING", `${wheels[0]?.filename} does not hold ${LIBRARIES[0]}.`, {
        hint: "Use another index (PIP_INDEX_URL).",
        exitCode: 3,
      });
    }
    mkdirSync(dirname(runtime), { recursive: true });
    rmSync(runtime, { recursive: true, force: true });
    renameSync(temporary, runtime);
  } catch (error) {
    // Gigabytes that nobody can use.
    rmSync(temporary, { recursive: true, force: true });
    throw error;
  }
  for (const wheel of wheels) source.release(wheel);
}

/** Before the first byte is fetched: how much, how long, and how much room it takes meanwhile and later. */
function announce(show: SetupDisplay, cache: string, toFetch: number, all: number, unpacked: number): void {
  const megabytes = (bytes: number) => `${Math.round(bytes / 1e6)} MB`;
  const seconds = Math.ceil((toFetch * 8) / (MEGABITS * 1e6));
  const time = seconds < 120 ? `${seconds} s` : `${Math.ceil(seconds / 60)} minutes`;
  const kept = toFetch < all ? ` (of ${megabytes(all)}; the rest is here)` : "";
  const fetched =
    toFetch === 0
      ? "nothing to fetch"
      : `${megabytes(toFetch)} to fetch${kept}, once for all clones (about ${time} at ${MEGABITS} Mbit/s)`;
  show.message(`TensorFlow's library: ${fetched}, ${megabytes(unpacked)} in ${cache}.`);
}

/** The libraries keep their folders: the GPU's look for CUDA in ../nvidia. */
function placeOf(entry: string): string | null {
  if (LIBRARIES.some((library) => entry === `tensorflow/${library}`) || CUDA.test(entry)) return entry;
  return HEADERS.exec(entry)?.[1] ?? null;
}

/** @throws LockstepError LS_DISK_FULL where the disk of a folder has less than this left */
export function requireRoom(folder: string, needed: number): void {
  mkdirSync(folder, { recursive: true });
  const { bavail, bsize } = statfsSync(folder);
  if (bavail * bsize >= needed) return;
  throw new LockstepError(
    "LS_DISK_FULL",
    `${folder} has ${prettyBytes(bavail * bsize)} left; ${prettyBytes(needed)} are needed.`,
    { hint: "Free some space, or use another disk: LOCKSTEP_CACHE names the cache.", exitCode: 3 },
  );
}

/** The error itself, or what it means where a disk was full in spite of that. */
export function diskFull(error: unknown): unknown {
  if ((error as NodeJS.ErrnoException).code !== "ENOSPC") return error;
  return new LockstepError("LS_DISK_FULL", "The disk is full.", {
    hint: "Free some space, or use another disk (LOCKSTEP_CACHE names the cache); it goes on where it stopped.",
    exitCode: 3,
    cause: error,
  });
}
