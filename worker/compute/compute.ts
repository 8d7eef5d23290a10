import { Worker } from "node:worker_threads";
import type { Config } from "../../shared/config/schema.ts";
import { LockstepError } from "../../shared/errors.ts";
import type { ComputeData, ComputeReply, ComputeRequest } from "./messages.ts";
import { keepLoaded } from "./tensorflow.ts";

export type ComputeReady = Extract<ComputeReply, { kind: "ready" }>;

/** The main thread's handle of the compute thread. */
export class Compute {
  private readonly thread: Worker;
  private onReply: (reply: ComputeReply) => void = () => {};
  private onDeath: (reason: string) => void = () => {};

  private constructor(thread: Worker) {
    this.thread = thread;
    thread.on("message", (reply: ComputeReply) => this.onReply(reply));
    thread.on("error", (error) => this.onDeath(error.message));
    thread.on("exit", (code) => this.onDeath(`the compute thread ended with code ${code}`));
  }

  /**
   * Starts the thread and waits until runtime, data and model are loaded and the fingerprint is computed.
   * @throws LockstepError with the code that the thread gives, for example LS_RUNTIME or LS_DATA_MISSING
   */
  static start(config: Config): Promise<{ readonly compute: Compute; readonly ready: ComputeReady }> {
    const workerData: ComputeData = { config };
    const thread = new Worker(new URL("./thread.js", import.meta.url), { workerData });
    const compute = new Compute(thread);
    return new Promise((resolve, reject) => {
      compute.onReply = (reply) => {
        if (reply.kind === "ready") resolve({ compute, ready: reply });
        else if (reply.kind === "failed") {
          keepLoaded();
          reject(new LockstepError(reply.code as `LS_${string}`, reply.message, { exitCode: 3 }));
        }
      };
      compute.onDeath = (reason) =>
        reject(new LockstepError("LS_COMPUTE", `The compute thread could not start: ${reason}.`));
    });
  }

  listen(onReply: (reply: ComputeReply) => void, onDeath: (reason: string) => void): void {
    this.onReply = onReply;
    this.onDeath = onDeath;
  }

  post(request: ComputeRequest): void {
    this.thread.postMessage(request);
  }

  async close(): Promise<void> {
    this.onDeath = () => {};
    await this.thread.terminate();
  }
}
