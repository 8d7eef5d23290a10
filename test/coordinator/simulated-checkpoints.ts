import type { CheckpointFiles } from "../../coordinator/checkpoints/checkpoint-files.ts";

interface SimulatedFile {
  content: Buffer;
  synced: number;
  /** Counts its changes. */
  stamp: number;
  renamed: boolean;
}

export const noRoom = () => Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });

/** Checkpoints in memory: a disk of a size, which after a crash has only what was flushed. */
export class SimulatedCheckpoints implements CheckpointFiles {
  readonly files = new Map<string, SimulatedFile>();
  /** Bytes that fit on the disk. */
  size = Number.POSITIVE_INFINITY;
  /** Called before every operation that changes something; throws where it must not happen. */
  operate: (name: string) => void = () => {};

  names = (): readonly string[] => [...this.files.keys()];

  look(name: string) {
    const file = this.files.get(name);
    return file === undefined ? null : { bytes: file.content.length, stamp: `${file.stamp}` };
  }

  async create(name: string) {
    this.operate(`create ${name}`);
    const file: SimulatedFile = { content: Buffer.alloc(0), synced: 0, stamp: 0, renamed: false };
    this.files.set(name, file);
    const write = async (bytes: Uint8Array) => {
      this.operate(`write ${name}`);
      // Half of what was asked for, as a system may.
      const count = Math.min(Math.max(1, bytes.length >> 1), this.size - this.used);
      if (count <= 0) throw noRoom();
      file.content = Buffer.concat([file.content, bytes.subarray(0, count)]);
      file.stamp += 1;
      return { bytesWritten: count };
    };
    const sync = async () => {
      this.operate(`sync ${name}`);
      file.synced = file.content.length;
    };
    return { write, sync, close: async () => {} } as unknown as Awaited<ReturnType<CheckpointFiles["create"]>>;
  }

  async *read(name: string, from: number, to: number): AsyncGenerator<Buffer> {
    const { content } = this.files.get(name)!;
    for (let at = from; at < to; at += 1000) yield content.subarray(at, Math.min(to, at + 1000));
  }

  async rename(from: string, to: string): Promise<void> {
    this.operate(`rename ${from} ${to}`);
    const file = this.files.get(from);
    if (file === undefined) throw Object.assign(new Error(`ENOENT: ${from}`), { code: "ENOENT" });
    this.files.delete(from);
    this.files.set(to, { ...file, renamed: true });
  }

  replace(name: string, content: string): void {
    this.operate(`replace ${name}`);
    const bytes = Buffer.from(content);
    const before = this.files.get(name);
    if (this.used - (before?.content.length ?? 0) + bytes.length > this.size) throw noRoom();
    this.files.set(name, { content: bytes, synced: bytes.length, stamp: (before?.stamp ?? 0) + 1, renamed: true });
  }

  remove(name: string): void {
    this.operate(`remove ${name}`);
    this.files.delete(name);
  }

  get used(): number {
    return [...this.files.values()].reduce((sum, { content }) => sum + content.length, 0);
  }

  /** Changes a file behind everybody's back. */
  tamper(name: string, change: (content: Buffer) => Buffer): void {
    const file = this.files.get(name)!;
    file.content = change(Buffer.from(file.content));
    file.stamp += 1;
  }

  /** What was not flushed is gone or torn; new names that were not made durable may be gone. */
  afterCrash(random: () => number): void {
    for (const [name, file] of this.files) {
      if (!file.renamed && random() < 0.5) this.files.delete(name);
      else
        file.content = file.content.subarray(
          0,
          file.synced + Math.floor(random() * (file.content.length - file.synced)),
        );
    }
  }
}
