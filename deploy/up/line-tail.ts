import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { type JsonLine, objectIn } from "../../shared/data/json-lines.ts";

const PIECE = 1 << 18;

/** Reads the lines that are appended to an ndjson file, whole ones only. */
export class LineTail {
  readonly #file: string;
  #at = 0;
  #rest = "";

  constructor(file: string) {
    this.#file = file;
  }

  /** Objects of the lines that came since the last call; lines that are no JSON are passed over. */
  read(): JsonLine[] {
    let handle: number;
    try {
      handle = openSync(this.#file, "r");
    } catch {
      return [];
    }
    try {
      return this.#readFrom(handle);
    } finally {
      closeSync(handle);
    }
  }

  #readFrom(handle: number): JsonLine[] {
    const { size } = fstatSync(handle);
    // The file was written anew.
    if (size < this.#at) this.#restart();
    const found: JsonLine[] = [];
    const buffer = Buffer.alloc(Math.min(PIECE, size - this.#at));
    while (this.#at < size) {
      const bytes = readSync(handle, buffer, 0, Math.min(buffer.length, size - this.#at), this.#at);
      if (bytes === 0) break;
      this.#at += bytes;
      // latin1 keeps bytes apart from characters that a piece cuts in two.
      const lines = (this.#rest + buffer.toString("latin1", 0, bytes)).split("\n");
      this.#rest = lines.pop() ?? "";
      found.push(...lines.flatMap((line) => objectIn(Buffer.from(line, "latin1").toString("utf8"))));
    }
    return found;
  }

  #restart(): void {
    this.#at = 0;
    this.#rest = "";
  }
}
