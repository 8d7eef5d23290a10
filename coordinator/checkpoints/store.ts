import { createHash } from "node:crypto";
import { join } from "node:path";
import { LockstepError, sentenceOf } from "../../shared/errors.ts";
import { encodeHeader } from "../../shared/model/safetensors.ts";
import type { ModelFacts } from "../../shared/protocol/messages.ts";
import type { Tip } from "../../shared/protocol/view.ts";
import { writeAll } from "../files/durable.ts";
import type { CheckpointRecord } from "../records/record.ts";
import { type CheckpointFiles, checkpointDirectory } from "./checkpoint-files.ts";
import { flawOf } from "./flaw.ts";
import { bestOf, retained } from "./retention.ts";
import { StateHash } from "./state-hash.ts";

export interface CheckpointOptions {
  readonly directory: string;
  readonly run: string;
  /** How many of the newest are kept, besides the best. */
  readonly keep: number;
  readonly term: number;
  /** Recorded checkpoints, oldest first. */
  readonly recorded: readonly CheckpointRecord[];
  /** Step of the state that was validated best, where the run may end there. */
  readonly validated?: number | null;
  /** Throws where this coordinator does not rule any more: nothing of the new ruler's is replaced then. */
  checkRuling(): void;
  /** One line for people. */
  warn(line: string): void;
  /** The files of the directory; a test's disk may be full. */
  readonly files?: CheckpointFiles;
}

const MANIFEST = "manifest.json";

/**
 * Checkpoints of a run: safetensors files whose tensors are the flat vectors of the state image (weights, optimizer
 * slots, moving average), with lineage and position in the metadata. One is written under a temporary name, flushed and
 * renamed; it counts once it is recorded; it is used only if size and SHA-256 are the recorded ones.
 */
export class CheckpointStore {
  readonly #options: CheckpointOptions;
  readonly #files: CheckpointFiles;
  #recorded: CheckpointRecord[];
  #validated: number | null;
  /** What was verified, by file: it is not hashed again while the file has not been touched. */
  readonly #verified = new Map<string, string>();

  constructor(options: CheckpointOptions) {
    this.#options = options;
    this.#validated = options.validated ?? null;
    this.#files = options.files ?? checkpointDirectory(options.directory);
    this.#recorded = options.recorded.filter(({ file }) => this.#files.look(file) !== null);
    this.#sweep();
  }

  get newest(): CheckpointRecord | null {
    return this.#recorded.at(-1) ?? null;
  }

  path(file: string): string {
    return join(this.#options.directory, file);
  }

  /**
   * Writes a checkpoint from the pieces of the state image. It does not count yet.
   * @param loss mean training loss of the steps since the checkpoint before
   * @throws LockstepError LS_CHECKPOINT_WRITE where the disk is full, or the pieces do not make the image
   */
  async write(
    tip: Tip,
    facts: ModelFacts,
    loss: number | null,
    pieces: AsyncIterable<Uint8Array>,
  ): Promise<CheckpointRecord> {
    const { run, term, checkRuling } = this.#options;
    const file = `step-${tip.step}.safetensors`;
    // Coordinators of two terms may write at once: each under a name of its own.
    const temporary = `step-${tip.step}.term-${term}.partial`;
    try {
      const { bytes, sha256 } = await this.#fill(temporary, headerOf(tip, run, facts), tip, facts.stateBytes, pieces);
      checkRuling();
      await this.#files.rename(temporary, file);
      return { tip, file, sha256, bytes, loss };
    } catch (cause) {
      this.#files.remove(temporary);
      if (cause instanceof LockstepError && cause.code === "LS_SUPERSEDED") throw cause;
      const hint = "Look at the disk; training goes on.";
      const message = `The checkpoint of step ${tip.step} was not written: ${sentenceOf(cause)}.`;
      throw new LockstepError("LS_CHECKPOINT_WRITE", message, { hint, cause });
    }
  }

  /** A checkpoint's record is durable: shows it in the manifest, then deletes what is not kept any more. */
  recorded(record: CheckpointRecord): void {
    this.#recorded = [...this.#recorded.filter(({ tip }) => tip.step !== record.tip.step), record];
    this.#verified.set(record.file, this.#stamp(record.file) ?? "");
    this.#forgetOld();
  }

  /** The checkpoint of this step stays as the best one from now on; null: which is best the training loss says. */
  validated(step: number | null): void {
    this.#validated = step;
  }

  /**
   * The newest one that is sound; those that are not are given up, each with a line.
   * @param before most steps that it may have
   */
  async newestUsable(before = Number.POSITIVE_INFINITY): Promise<CheckpointRecord | null> {
    for (;;) {
      const record = this.#recorded.findLast(({ tip }) => tip.step <= before);
      if (record === undefined) return null;
      if (await this.usable(record.tip.step)) return record;
    }
  }

  /** The run's line was cut back to this step: what lies behind it does not count any more. */
  cutBack(step: number): void {
    this.#keep(this.#recorded.filter(({ tip }) => tip.step <= step));
  }

  /** Is there a sound checkpoint of this step? One that is torn or was changed is given up with one line. */
  async usable(step: number): Promise<boolean> {
    const record = this.#recorded.find(({ tip }) => tip.step === step);
    if (record === undefined) return false;
    const stamp = this.#stamp(record.file);
    if (stamp !== null && this.#verified.get(record.file) === stamp) return true;
    const wrong = await flawOf(this.#files, record).catch(
      (error: unknown) => `it cannot be read: ${sentenceOf(error)}`,
    );
    if (wrong === null) {
      this.#verified.set(record.file, stamp ?? "");
      return true;
    }
    // Somebody else may have asked at the same time.
    if (!this.#recorded.includes(record)) return false;
    this.#recorded = this.#recorded.filter((other) => other !== record);
    const before = this.newest === null ? "There is none before it." : `${this.newest.file} is.`;
    this.#options.warn(`Checkpoint ${record.file} is not used: ${wrong}. ${before}`);
    this.#writeManifest();
    return false;
  }

  /** Bytes [from, to) of a recorded checkpoint's file, to its end where `to` is 0; null for one that is not there. */
  read(step: number, from = 0, to = 0): AsyncIterable<Buffer> | null {
    const record = this.#recorded.find(({ tip }) => tip.step === step);
    if (record === undefined) return null;
    const end = to === 0 ? record.bytes : Math.min(to, record.bytes);
    if (from >= end) return null;
    return this.#files.read(record.file, from, end);
  }

  async #fill(name: string, header: Uint8Array, tip: Tip, stateBytes: number, pieces: AsyncIterable<Uint8Array>) {
    const hash = createHash("sha256");
    const state = await StateHash.of(stateBytes);
    let bytes = 0;
    const handle = await this.#files.create(name);
    try {
      const put = async (piece: Uint8Array) => {
        hash.update(piece);
        bytes += piece.length;
        if (bytes > header.length + stateBytes) throw new Error(`more than ${stateBytes} bytes came`);
        if (bytes > header.length) state.update(piece);
        await writeAll(handle, piece);
      };
      await put(header);
      for await (const piece of pieces) await put(piece);
      if (bytes !== header.length + stateBytes) throw new Error(`${bytes - header.length} of ${stateBytes} bytes came`);
      if (state.digest() !== tip.stateHash) throw new Error("what came is not the recorded state");
      await handle.sync();
    } finally {
      await handle.close();
    }
    return { bytes, sha256: hash.digest("hex") };
  }

  #stamp(file: string): string | null {
    return this.#files.look(file)?.stamp ?? null;
  }

  #forgetOld(): void {
    this.#keep(retained(this.#recorded, this.#options.keep, this.#validated));
  }

  #keep(kept: CheckpointRecord[]): void {
    const gone = this.#recorded.filter((record) => !kept.includes(record));
    this.#recorded = kept;
    this.#writeManifest();
    for (const { file } of gone) {
      this.#verified.delete(file);
      this.#files.remove(file);
    }
  }

  #writeManifest(): void {
    const best = this.#recorded.find(({ tip }) => tip.step === this.#validated) ?? bestOf(this.#recorded);
    const manifest = this.#recorded.map((record) => ({ ...record, best: record === best }));
    try {
      this.#files.replace(MANIFEST, `${JSON.stringify(manifest, null, 2)}\n`);
    } catch (error) {
      this.#options.warn(`The manifest of the checkpoints was not written: ${sentenceOf(error)}.`);
    }
  }

  /** Removes what crashes of older terms left: unfinished files, and finished ones that were never recorded. */
  #sweep(): void {
    const { term } = this.#options;
    const known = new Set(this.#recorded.map(({ file }) => file));
    for (const name of this.#files.names()) {
      const partial = /^step-\d+\.term-(\d+)\.partial$/.exec(name);
      const abandoned = (partial !== null && Number(partial[1]) < term) || name === `${MANIFEST}.partial`;
      const unrecorded = /^step-\d+\.safetensors$/.test(name) && known.size > 0 && !known.has(name);
      if (abandoned || unrecorded) this.#files.remove(name);
    }
    if (known.size > 0) this.#forgetOld();
  }
}

function headerOf(tip: Tip, run: string, facts: ModelFacts): Uint8Array {
  return encodeHeader(
    facts.sections.map(({ name, floats }) => ({ name, dtype: "F32", shape: [floats] })),
    {
      format: "lockstep-checkpoint-1",
      run,
      step: String(tip.step),
      lineage: tip.lineage,
      stateHash: tip.stateHash,
    },
  );
}
