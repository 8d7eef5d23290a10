import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { CoordinatorClient, channelOptions, grpc } from "../../shared/rpc/service.ts";
import { type RunStatus, runStatusSchema } from "./status.ts";

const endpointsSchema = z.looseObject({
  coordinator: z.string(),
  http: z.string().optional(),
  nats: z.string().nullish(),
});
export type Endpoints = z.infer<typeof endpointsSchema>;

/** Where the parts of a run listen; null while its coordinator has not said so. */
export function readEndpoints(directory: string): Endpoints | null {
  try {
    return endpointsSchema.parse(JSON.parse(readFileSync(join(directory, "endpoints.json"), "utf8")));
  } catch {
    return null;
  }
}

const CALL_MILLIS = 3000;

/** Asks the coordinator of a run, wherever it is now: a restarted one listens elsewhere. */
export class Probe {
  readonly #where: () => string | null;
  readonly #run: string | null;
  #client: grpc.Client | null = null;
  #address: string | null = null;

  /** @param run what the answers must be about; null: whatever runs there */
  constructor(where: () => string | null, run: string | null) {
    this.#where = where;
    this.#run = run;
  }

  static ofDirectory(directory: string, run: string | null): Probe {
    return new Probe(() => readEndpoints(directory)?.coordinator ?? null, run);
  }

  /** null: no answer, or one about another run (a port is soon taken by somebody else). */
  async status(): Promise<RunStatus | null> {
    const answer = await this.#call<{ json: string }>("getStatus", {}).catch(() => null);
    if (answer === null) return null;
    try {
      const status = runStatusSchema.parse(JSON.parse(answer.json));
      return this.#run === null || status.run === this.#run ? status : null;
    } catch {
      return null;
    }
  }

  /** Asks for a planned stop. False where nobody has taken the request. */
  async stop(reason: string): Promise<boolean> {
    const answer = await this.#call<{ ok: boolean }>("control", { action: "stop", target: "", detail: reason }).catch(
      () => null,
    );
    return answer?.ok === true;
  }

  /**
   * Injects a fault, in the text form of shared/faults/fault.ts, into a worker or, where `target` is empty, the coordinator.
   * @throws Error why it was not taken
   */
  async inject(target: string, fault: string): Promise<string> {
    const request = { action: "inject", target, detail: fault };
    return (await this.#call<{ message: string }>("control", request)).message;
  }

  close(): void {
    this.#client?.close();
    this.#client = null;
    this.#address = null;
  }

  #call<Answer>(method: "getStatus" | "control", request: object): Promise<Answer> {
    const address = this.#where();
    if (address === null) return Promise.reject(new Error("the coordinator does not listen yet"));
    if (this.#client === null || address !== this.#address) {
      this.close();
      this.#address = address;
      this.#client = new CoordinatorClient(address, grpc.credentials.createInsecure(), channelOptions());
    }
    const client = this.#client as unknown as Record<string, UnaryCall>;
    return new Promise((resolve, reject) => {
      const deadline = new Date(Date.now() + CALL_MILLIS);
      client[method]!(request, { deadline }, (error, answer) =>
        error === null ? resolve(answer as Answer) : reject(error),
      );
    });
  }
}

type UnaryCall = (
  request: object,
  options: { readonly deadline: Date },
  done: (error: Error | null, answer: unknown) => void,
) => void;
