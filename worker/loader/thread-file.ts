/** The built file of the loader thread: beside this one in dist/, and in dist/ where this one runs as a source. */
export function builtThread(): URL {
  const isSource = import.meta.url.endsWith(".ts");
  return new URL(isSource ? "../../dist/worker/loader/thread.js" : "./thread.js", import.meta.url);
}
