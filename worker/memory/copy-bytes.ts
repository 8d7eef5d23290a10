/**
 * Copies bytes between buffers, of which one or both are shared memory: all of `source` to byte `at` of `target`. On shared
 * memory TypedArray.set copies word by word, and byte by byte where an end is not aligned, since JavaScript's memory model
 * asks for that; Buffer's `fill` is a plain memcpy, two to ten times faster. Nobody else may write either range meanwhile.
 * @throws RangeError where `target` is too short
 */
export function copyBytes(target: Buffer, at: number, source: Uint8Array): void {
  const end = at + source.length;
  if (at < 0 || end > target.length) throw new RangeError(`${source.length} bytes do not fit at ${at}`);
  // An empty source would not be taken for one.
  if (source.length > 0) target.fill(source, at, end);
}
