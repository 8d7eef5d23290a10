// One process at a time sets a clone up. The lock is a socket in Linux' abstract namespace: the kernel frees it with
// the process that holds it, however that ends, so that there is nothing stale to judge or to clean.
import { createHash } from "node:crypto";
import { connect, createServer } from "node:net";

/**
 * Runs `work` while no other process of this machine does for the same folder.
 * @param {string} folder
 * @param {() => void} onWait called once where another process is at it
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 * @template T
 */
export async function locked(folder, onWait, work) {
  const name = `\0lockstep-${createHash("sha256").update(folder).digest("hex").slice(0, 32)}`;
  let server = await listen(name);
  for (let said = false; server === null; said = true) {
    if (!said) onWait();
    await holderEnds(name);
    server = await listen(name);
  }
  const waiting = new Set();
  server.on("connection", (socket) => {
    waiting.add(socket);
    socket.on("error", () => {}).on("close", () => waiting.delete(socket));
  });
  try {
    return await work();
  } finally {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of waiting) socket.destroy();
    await closed;
  }
}

/** A server that holds the name, or null where another process holds it. */
function listen(name) {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", (error) => (error.code === "EADDRINUSE" ? resolve(null) : reject(error)));
    server.listen(name, () => resolve(server.unref()));
  });
}

/** Resolves when the connection to the holder ends, which it does with the holder's work. */
function holderEnds(name) {
  return new Promise((resolve) => {
    const socket = connect(name);
    socket.on("error", () => {}).on("close", resolve);
    socket.resume();
  });
}
