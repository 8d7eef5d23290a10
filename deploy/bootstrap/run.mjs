// Child processes, one in front at a time, and what signals mean meanwhile.
import { spawn } from "node:child_process";

export const say = (text) => process.stderr.write(`${text}\n`);

/** Thrown where a signal ended the work; nothing more needs to be said. */
export class Interrupted extends Error {
  exitCode = 130;
}

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"];

/**
 * A terminal sends Ctrl-C to the whole group: the child ends first and says what there is to say. Signals from
 * elsewhere are passed on to it.
 * @param {string} command
 * @param {string[]} args
 * @param {import("node:child_process").SpawnOptions & {quiet?: boolean}} options `quiet`: the output is returned, not shown
 * @returns {Promise<{code: number, output: string}>}
 * @throws Interrupted after a signal to this process; the error of spawn where the program is missing
 */
export function run(command, args, { quiet = false, ...options } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: quiet ? ["ignore", "pipe", "pipe"] : ["ignore", 2, 2], ...options });
    let interrupted = false;
    const onSignal = (signal) => {
      interrupted = true;
      if (signal !== "SIGINT" || !process.stdin.isTTY) child.kill(signal);
    };
    for (const signal of SIGNALS) process.on(signal, onSignal);
    const settle = (then) => {
      for (const signal of SIGNALS) process.off(signal, onSignal);
      then();
    };
    let output = "";
    for (const stream of quiet ? [child.stdout, child.stderr] : []) {
      stream.setEncoding("utf8").on("data", (text) => {
        output = (output + text).slice(-200_000);
      });
    }
    child.on("error", (error) => settle(() => reject(error)));
    child.on("close", (code, signal) =>
      settle(() => (interrupted ? reject(new Interrupted()) : resolve({ code: signal === null ? code : 130, output }))),
    );
  });
}
