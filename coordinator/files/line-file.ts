import { closeSync, existsSync, fstatSync, ftruncateSync, openSync, readSync } from "node:fs";
import { AppendQueue, type AppendQueueOptions } from "./append-queue.ts";

/** A file of lines for people and tools: events.ndjson, steps.ndjson. */
export class LineFile extends AppendQueue {
  /** A torn last line, which a crash may have left, is cut off. */
  constructor(path: string, options: AppendQueueOptions = {}) {
    if (existsSync(path)) cutTornLine(path);
    super(path, options);
  }

  override write(line: string): void {
    super.write(`${line}\n`);
  }
}

function cutTornLine(path: string): void {
  const descriptor = openSync(path, "r+");
  try {
    const { size } = fstatSync(descriptor);
    const piece = Buffer.alloc(1 << 16);
    for (let end = size; end > 0; ) {
      const from = Math.max(0, end - piece.length);
      const bytes = readSync(descriptor, piece, 0, end - from, from);
      const newline = piece.lastIndexOf(10, bytes - 1);
      if (newline >= 0 || from === 0) {
        const whole = from + newline + 1;
        if (whole < size) ftruncateSync(descriptor, whole);
        return;
      }
      end = from;
    }
  } finally {
    closeSync(descriptor);
  }
}
