import { setTimeout as sleep } from "node:timers/promises";
import { LockstepError, sentenceOf } from "../../shared/errors.ts";
import { isDiskFull } from "../files/durable.ts";
import { encodeLine } from "./line.ts";
import { type DurableRecord, recordSchema } from "./record.ts";
import type { AppendFile } from "./record-files.ts";

export interface AppendOptions {
  /** Called when a batch is on the disk, before anybody is told: throws where it must not count. */
  fence(): void;
  /** Pause between two tries while the disk is full, and how long to go on trying, in milliseconds. */
  readonly retryEvery: number;
  readonly patience: number;
  /** The disk is full, or has room again. */
  onStall(stalled: boolean): void;
}

interface Waiting {
  readonly records: readonly DurableRecord[];
  resolve(): void;
  reject(error: unknown): void;
}

/**
 * The end of one file of records. Records of calls in flight share one write and one flush (group commit). On a full disk
 * it waits for room, since nobody can rule without records; after any other failure nothing more is written, because what
 * a failed flush has lost cannot be known.
 */
export class AppendLog {
  readonly #file: AppendFile;
  readonly #options: AppendOptions;
  #durable = 0;
  #queue: Waiting[] = [];
  /** Set and cleared in one go with the look at the queue, so that nothing is left in it. */
  #busy = false;
  #writing: Promise<void> | null = null;
  #broken: unknown = null;

  constructor(file: AppendFile, options: AppendOptions) {
    this.#file = file;
    this.#options = options;
  }

  /** Bytes of the file that are on the disk. */
  get durable(): number {
    return this.#durable;
  }

  /** @throws LockstepError LS_RECORD_MALFORMED (nothing was written), LS_RECORDS_WRITE, or what the fence says */
  append(records: readonly DurableRecord[]): Promise<void> {
    if (this.#broken !== null) return Promise.reject(this.#broken);
    // What cannot be read again must not be written: it would end the run for good.
    const bad = records.map((record) => recordSchema.safeParse(record)).find(({ success }) => !success);
    if (bad !== undefined) return Promise.reject(malformed(bad.error));
    return new Promise((resolve, reject) => {
      this.#queue.push({ records, resolve, reject });
      if (!this.#busy) this.#writing = this.#drain();
    });
  }

  /** Waits for what is under way. */
  async close(): Promise<void> {
    await this.#writing;
    this.#broken ??= new LockstepError("LS_RECORDS_WRITE", "The records are closed.");
    await this.#file.close();
  }

  async #drain(): Promise<void> {
    this.#busy = true;
    while (this.#queue.length > 0) {
      const batch = this.#queue;
      this.#queue = [];
      try {
        const lines = batch.flatMap(({ records }) => records.map((record) => encodeLine(record, this.#durable)));
        await this.#write(Buffer.concat(lines));
        this.#options.fence();
        for (const { resolve } of batch) resolve();
      } catch (error) {
        this.#broken = error;
        for (const { reject } of [...batch, ...this.#queue]) reject(error);
        this.#queue = [];
      }
    }
    this.#busy = false;
  }

  async #write(bytes: Buffer): Promise<void> {
    const until = performance.now() + this.#options.patience;
    let stalled = false;
    for (let at = 0; at < bytes.length; ) {
      try {
        at += await this.#file.write(bytes.subarray(at));
        if (stalled) this.#options.onStall(false);
        stalled = false;
      } catch (error) {
        if (!isDiskFull(error) || performance.now() > until) throw failed(error);
        if (!stalled) this.#options.onStall(true);
        stalled = true;
        // Meanwhile somebody else may have taken over.
        this.#options.fence();
        await sleep(this.#options.retryEvery);
      }
    }
    try {
      await this.#file.sync();
    } catch (error) {
      throw failed(error);
    }
    this.#durable += bytes.length;
  }
}

const failed = (cause: unknown) =>
  new LockstepError("LS_RECORDS_WRITE", `The run's records cannot be written: ${sentenceOf(cause)}.`, {
    hint: "Mend the disk, then resume the run; nothing that was recorded is lost.",
    cause,
  });

const malformed = (cause: unknown) =>
  new LockstepError("LS_RECORD_MALFORMED", "A record does not have the form that records have.", { cause });
