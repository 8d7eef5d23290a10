import { createHash } from "node:crypto";
import { createReadStream, existsSync, mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { open, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { LockstepError } from "../../shared/errors.ts";
import type { ModelFacts } from "../../shared/protocol/messages.ts";
import type { Tip } from "../../shared/protocol/view.ts";
import type { CheckpointRecord } from "../records/history.ts";
import { syncDirectory } from "../records/term-files.ts";

/**
 * Checkpoints of a run: safetensors files whose tensors are the flat vectors of the state image (weights, optimizer
 * slots, moving average), with lineage and position in the metadata. Written under a temporary name, flushed, renamed.
 */
export class CheckpointStore {
  private readonly directory: string;
  private readonly keep: number;
  private list: CheckpointRecord[];

  constructor(directory: string, keep: number, known: readonly CheckpointRecord[]) {
    this.directory = directory;
    this.keep = keep;
    this.list = known.filter((record) => existsSync(join(directory, record.file)));
    mkdirSync(directory, { recursive: true });
    for (const name of readdirSync(directory)) if (name.endsWith(".partial")) rmSync(join(directory, name), { force: true });
  }

  /**
   * Writes a checkpoint from the pieces of the state image.
   * @throws LockstepError LS_CHECKPOINT_WRITE where the disk is full, or the pieces do not make the image
   */
  async write(tip: Tip, run: string, facts: ModelFacts, pieces: AsyncIterable<Buffer>): Promise<CheckpointRecord> {
    const file = `step-${tip.step}.safetensors`;
    const path = join(this.directory, file);
    const temporary = `${path}.partial`;
    const header = headerOf(tip, run, facts);
    const hash = createHash("sha256");
    let bytes = 0;
    const handle = await open(temporary, "w", 0o600);
    try {
      const put = async (piece: Buffer) => {
        hash.update(piece);
        bytes += piece.length;
        await handle.write(piece);
      };
      await put(header);
      for await (const piece of pieces) await put(piece);
      if (bytes !== header.length + facts.stateBytes) throw new Error(`${bytes - header.length} of ${facts.stateBytes} bytes came`);
      await handle.sync();
    } catch (cause) {
      rmSync(temporary, { force: true });
      throw new LockstepError("LS_CHECKPOINT_WRITE", `The checkpoint of step ${tip.step} was not written: ${(cause as Error).message}.`, {
        hint: "Free some disk space; training goes on.",
        cause,
      });
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
    syncDirectory(this.directory);
    return { tip, file, sha256: hash.digest("hex"), bytes };
  }

  /** The record is durable: writes the manifest and deletes what is not kept. */
  async recorded(record: CheckpointRecord): Promise<void> {
    this.list = [...this.list.filter((known) => known.file !== record.file), record];
    while (this.list.length > this.keep) rmSync(join(this.directory, this.list.shift()!.file), { force: true });
    const manifest = join(this.directory, "manifest.json");
    await writeFile(`${manifest}.partial`, JSON.stringify(this.list, null, 2));
    await rename(`${manifest}.partial`, manifest);
  }

  get newest(): CheckpointRecord | null {
    return this.list.at(-1) ?? null;
  }

  /** Checks size and SHA-256; a torn or tampered file is given up with one line, and the one before is the newest. */
  async verifyNewest(onLost: (line: string) => void): Promise<CheckpointRecord | null> {
    for (;;) {
      const record = this.list.at(-1);
      if (record === undefined) return null;
      const path = join(this.directory, record.file);
      if (existsSync(path) && statSync(path).size === record.bytes && (await sha256Of(path)) === record.sha256) return record;
      onLost(`The checkpoint ${record.file} is torn or was changed and is not used; the one before it is.`);
      this.list.pop();
    }
  }

  /** The bytes of a recorded checkpoint's file; null for one that is not there. */
  read(step: number): AsyncIterable<Buffer> | null {
    const record = this.list.find(({ tip }) => tip.step === step);
    if (record === undefined) return null;
    return createReadStream(join(this.directory, record.file), { highWaterMark: 1 << 20 });
  }
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

/** Header of a safetensors file (https://github.com/huggingface/safetensors): u64 length, JSON padded with spaces. */
function headerOf(tip: Tip, run: string, facts: ModelFacts): Buffer {
  const tensors: Record<string, unknown> = {
    __metadata__: {
      format: "lockstep-checkpoint-1",
      run,
      step: String(tip.step),
      lineage: tip.lineage,
      stateHash: tip.stateHash,
    },
  };
  let at = 0;
  for (const { name, floats } of facts.sections) {
    tensors[name] = { dtype: "F32", shape: [floats], data_offsets: [at, at + floats * 4] };
    at += floats * 4;
  }
  const json = JSON.stringify(tensors);
  const text = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text]);
}
