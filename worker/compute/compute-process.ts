import { type ChildProcess, fork } from "node:child_process";
import { computeEnvironment } from "./tensorflow.ts";

/** Output of a process that is kept for its error message, in characters. */
const KEPT_OUTPUT = 4000;

/** A process beside this one that computes on one thread, with TensorFlow's settings as a worker has them. */
export class ComputeProcess {
  readonly child: ChildProcess;
  #output = "";

  /**
   * @param program path of its built entry file, which ends when its parent is gone
   * @param device `cpu`, or the index of a GPU
   */
  constructor(program: string, device: string) {
    this.child = fork(program, [], {
      env: { ...process.env, ...computeEnvironment({ device, threads: 1 }) },
      serialization: "advanced",
      stdio: ["ignore", "ignore", "pipe", "ipc"],
      execArgv: [],
    });
    this.child.stderr?.on("data", (text) => {
      this.#output = (this.#output + text).slice(-KEPT_OUTPUT);
    });
  }

  /** The end of a sentence: how it ended, and the last line that it wrote. */
  ending(code: number | null, by: NodeJS.Signals | null): string {
    const last = this.#output.trim().split("\n").at(-1)?.slice(0, 300) ?? "";
    const how = by === null ? `ended with exit code ${code}` : `was ended by ${by}`;
    return `${how}${last === "" ? "" : `: ${last}`}.`;
  }

  /** It may be inside TensorFlow, where no message reaches it, and holds nothing that must be written. */
  end(): Promise<void> {
    const { child } = this;
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return Promise.resolve();
    return new Promise((resolve) => {
      child.once("exit", () => resolve());
      child.kill("SIGKILL");
    });
  }
}
