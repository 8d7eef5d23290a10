import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { type CoordinatorClient, coordinatorClient, type Done, unary } from "../../shared/rpc/clients.ts";
import { grpc } from "../../shared/rpc/service.ts";
import { Trust } from "../../shared/security/trust.ts";
import { type RunStatus, runStatusSchema } from "./status.ts";

const endpointsSchema = z.looseObject({
  coordinator: z.string(),
  http: z.string().optional(),
  nats: z.string().nullish(),
  tls: z.boolean().optional(),
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
  readonly #where: () => Endpoints | null;
  /** By which a secured coordinator knows whoever may read the run's directory. */
  readonly #trust: () => Trust | null;
  readonly #run: string | null;
  #client: CoordinatorClient | null = null;
  #address: string | null = null;

  /** @param run what the answers must be about; null: whatever runs there */
  private constructor(where: () => Endpoints | null, trust: () => Trust | null, run: string | null) {
    this.#where = where;
    this.#trust = trust;
    this.#run = run;
  }

  static ofDirectory(directory: string, run: string | null): Probe {
    return new Probe(
      () => readEndpoints(directory),
      () => readOperator(directory),
      run,
    );
  }

  /** Of whatever runs at host:port of this machine, without security. */
  static ofAddress(coordinator: string): Probe {
    return new Probe(
      () => ({ coordinator }),
      () => null,
      null,
    );
  }

  /** null: no answer, or one about another run (a port is soon taken by somebody else). */
  async status(): Promise<RunStatus | null> {
    const answer = await this.#ask<{ readonly json: string }>((client, ...rest) => client.getStatus({}, ...rest)).catch(
      () => null,
    );
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
    return this.control("stop", "", reason).then(
      () => true,
      () => false,
    );
  }

  /**
   * Injects a fault, in the text form of shared/faults/fault.ts, into a worker or, where `target` is empty, the coordinator.
   * @throws Error why it was not taken
   */
  inject(target: string, fault: string): Promise<string> {
    return this.control("inject", target, fault);
  }

  /** What a person asks of the coordinator. @throws Error why it was not done */
  async control(action: string, target: string, detail: string): Promise<string> {
    const { ok, message } = await this.#ask<Done>((client, ...rest) =>
      client.control({ action, target, detail }, ...rest),
    );
    if (!ok) throw new Error(message);
    return message;
  }

  close(): void {
    this.#client?.close();
    this.#client = null;
    this.#address = null;
  }

  #ask<Answer>(call: UnaryCall<Answer>): Promise<Answer> {
    const endpoints = this.#where();
    if (endpoints === null) return Promise.reject(new Error("the coordinator does not listen yet"));
    const { coordinator: address, tls = false } = endpoints;
    if (this.#client === null || address !== this.#address) {
      this.close();
      const trust = tls ? this.#trust() : null;
      if (tls && trust === null) return Promise.reject(new Error(NOT_OWNER));
      this.#address = address;
      this.#client = coordinatorClient(address, { trust });
    }
    const client = this.#client;
    const asked = unary<Answer>((done) => call(client, { deadline: Date.now() + CALL_MILLIS }, done));
    return asked.catch((error: { readonly code?: grpc.status }) => {
      // Its certificate may have ended; there is a newer one in the run's directory.
      if (tls && client === this.#client && UNREACHED.includes(error.code)) this.close();
      throw error;
    });
  }
}

/** What a call ends with that did not get to the coordinator. */
const UNREACHED: readonly (grpc.status | undefined)[] = [
  grpc.status.UNAVAILABLE,
  grpc.status.CANCELLED,
  grpc.status.DEADLINE_EXCEEDED,
];

const NOT_OWNER = "the run is secured, and its folder security/ cannot be read: only its owner may ask";

type UnaryCall<Answer> = (
  client: CoordinatorClient,
  options: { readonly deadline: number },
  done: grpc.requestCallback<Answer>,
) => grpc.ClientUnaryCall;

const operatorSchema = z.strictObject({
  authority: z.string(),
  certificate: z.string(),
  key: z.string(),
  names: z.enum(["run", "machines"]),
});

/** With what commands on the coordinator's machine show that they may; null for whoever may not read it. */
function readOperator(directory: string): Trust | null {
  try {
    const text = readFileSync(join(directory, "security", "operator.json"), "utf8");
    const { names, ...credentials } = operatorSchema.parse(JSON.parse(text));
    return new Trust(credentials, names);
  } catch {
    return null;
  }
}
