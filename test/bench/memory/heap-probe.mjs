// Preloaded into every thread of a process that is measured (node --import this): on SIGUSR2 each thread
// collects its garbage, and the main thread appends what is left to $LOCKSTEP_HEAP_FOLDER/<process id>.ndjson. Threads
// that wait without turning their event loop do not answer in time and are left out; resident memory counts them too.
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { BroadcastChannel, isMainThread, threadId } from "node:worker_threads";

const PATIENCE = 1000;
// A thread that starts after somebody switched the flag off has no global gc: a new context has one while it is on.
setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc");
const asking = new BroadcastChannel("lockstep-heap-ask");
const telling = new BroadcastChannel("lockstep-heap-tell");
for (const channel of [asking, telling]) channel.unref();

/** Bytes of JavaScript objects and of what hangs on them outside of the heap. */
function used() {
  collect();
  const { used_heap_size, external_memory } = getHeapStatistics();
  return { thread: threadId, heap: used_heap_size, external: external_memory };
}

if (isMainThread) {
  let threads = [];
  telling.onmessage = ({ data }) => threads.push(data);
  process.on("SIGUSR2", () => {
    threads = [];
    asking.postMessage("measure");
    setTimeout(() => {
      const all = [used(), ...threads];
      const file = join(process.env.LOCKSTEP_HEAP_FOLDER, `${process.pid}.ndjson`);
      appendFileSync(file, `${JSON.stringify({ resident: process.memoryUsage.rss(), threads: all })}\n`);
    }, PATIENCE);
  });
} else {
  asking.onmessage = () => telling.postMessage(used());
}
