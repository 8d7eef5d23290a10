/**
 * Options of Node for a process that exchanges gradients. A worker has one core and a small JavaScript heap, but V8's
 * helper threads woke up at every collection for buffers of the exchange, and took an eighth of the processor time of a
 * step of 17 MB.
 */
export const WORKER_NODE_OPTIONS: readonly string[] = ["--single-threaded-gc"];
