import { closeSync, openSync, readSync } from "node:fs";
import { LockstepError } from "../errors.ts";

export interface ImageShape {
  readonly channels: number;
  readonly height: number;
  readonly width: number;
}

export type SplitName = "train" | "test";

/** One split, or some of its images: labels in memory, images read on demand through one open file. Not to be shared between threads. */
export class Split {
  readonly name: SplitName;
  readonly count: number;
  /** Class of every image, counted from 0. */
  readonly labels: Uint8Array;
  readonly shape: ImageShape;
  readonly #file: string;
  /** Places in the file; null for all, in their order. */
  readonly #places: Int32Array | null;
  readonly #planes: Uint8Array;
  #descriptor: number | null = null;

  constructor(name: SplitName, file: string, labels: Uint8Array, shape: ImageShape, places: Int32Array | null = null) {
    this.name = name;
    this.count = labels.length;
    this.labels = labels;
    this.shape = shape;
    this.#file = file;
    this.#places = places;
    this.#planes = new Uint8Array(shape.channels * shape.height * shape.width);
  }

  /**
   * Writes image `id` as uint8 [height, width, channels] into `into`, from `at` on.
   * @throws LockstepError LS_DATA_TRUNCATED or LS_DATA_READ, naming file and byte.
   */
  read(id: number, into: Uint8Array, at = 0): void {
    if (!(Number.isInteger(id) && id >= 0 && id < this.count)) {
      throw new RangeError(`image ${id} of the ${this.count} in ${this.#file}`);
    }
    this.#fill(this.placeOf(id));
    const planes = this.#planes;
    const { channels, height, width } = this.shape;
    const line = width * channels;
    for (let channel = 0; channel < channels; channel++) {
      for (let column = 0; column < width; column++) {
        // Columns lie one after the other in the file: transpose the last two dimensions.
        let from = (channel * width + column) * height;
        let to = at + column * channels + channel;
        for (const end = from + height; from < end; from++, to += line) into[to] = planes[from]!;
      }
    }
  }

  /** Where image `id` stands in the file `<name>_X.bin`. */
  placeOf(id: number): number {
    return this.#places === null ? id : this.#places[id]!;
  }

  close(): void {
    if (this.#descriptor !== null) closeSync(this.#descriptor);
    this.#descriptor = null;
  }

  #fill(id: number): void {
    const bytes = this.#planes.length;
    const start = id * bytes;
    let done = 0;
    while (done < bytes) {
      const read = this.#readAt(done, start + done);
      if (read === 0) throw truncated(this.#file, start + done, `image ${id} ends at byte ${start + bytes}`);
      done += read;
    }
  }

  #readAt(done: number, position: number): number {
    try {
      this.#descriptor ??= openSync(this.#file, "r");
      return readSync(this.#descriptor, this.#planes, done, this.#planes.length - done, position);
    } catch (cause) {
      throw new LockstepError("LS_DATA_READ", `${this.#file} cannot be read at byte ${position}: ${reasonOf(cause)}.`, {
        hint: "Check the disk and the file's permissions.",
        exitCode: 3,
        cause,
      });
    }
  }
}

export const reasonOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : String(error);

/** A file that ends before what was expected of it. */
export function truncated(file: string, size: number, expectation: string): LockstepError {
  return new LockstepError("LS_DATA_TRUNCATED", `${file} ends at byte ${size}; ${expectation}.`, {
    hint: "Fetch it again (`npx lockstep data fetch`); images of another size than 3x96x96 need a dataset.json.",
    exitCode: 3,
  });
}
