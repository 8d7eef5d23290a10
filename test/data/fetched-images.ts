import { readFileSync, statSync } from "node:fs";

/** The system counts blocks of this size. */
const BLOCK = 512;

/** How much of a file with holes is on the disk, and its length, in bytes. */
export function bytesIn(file: string): { readonly there: number; readonly all: number } {
  const { blocks, size } = statSync(file);
  return { there: Math.min(size, blocks * BLOCK), all: size };
}

/** Ids of the images in a file that are not holes. @param bytes of one image */
export function imagesIn(file: string, bytes: number): number[] {
  const content = readFileSync(file);
  const ids = Array.from({ length: content.length / bytes }, (_, id) => id);
  return ids.filter((id) => content.subarray(id * bytes, (id + 1) * bytes).some((byte) => byte !== 0));
}
