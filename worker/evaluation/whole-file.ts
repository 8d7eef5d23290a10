import { renameSync, writeFileSync } from "node:fs";

/** Readers never see half a file: it is written beside its place and then moved there. */
export function writeWhole(file: string, content: string | Uint8Array): string {
  const beside = `${file}.${process.pid}.new`;
  writeFileSync(beside, content);
  renameSync(beside, file);
  return file;
}
