import { onTestFinished } from "vitest";
import { DialBack } from "../../coordinator/dial-back.ts";
import { AccessControl } from "../../coordinator/security/access-control.ts";
import { JoinLinks } from "../../coordinator/security/join-links.ts";
import { RunSecurity, type SecurityOptions } from "../../coordinator/security/run-security.ts";
import { CoordinatorServer } from "../../coordinator/server.ts";
import { Sessions } from "../../coordinator/sessions.ts";
import { splitAddress } from "../../shared/process/addresses.ts";
import type { WorkerMessage } from "../../shared/protocol/messages.ts";
import { type CoordinatorClient, coordinatorClient, unary } from "../../shared/rpc/clients.ts";
import { reach } from "../../shared/rpc/reach.ts";
import { bindingOf } from "../../shared/rpc/service.ts";
import type { Refusal } from "../../shared/security/gate.ts";
import { type JoinToken, parseLink } from "../../shared/security/join-link.ts";
import { Trust } from "../../shared/security/trust.ts";
import { joinOnce, newIdentity } from "../../worker/security/obtain.ts";
import { temporary } from "../temporary.ts";

export const HOUR = 3_600_000;
const [first, second] = [newIdentity(), newIdentity()];
export const { incarnation: A } = first;
export const { incarnation: B } = second;
/** Joins as A. */
export const joiner = { identity: first, name: "a" };

export const scratchDirectory = (): string => temporary("security");

/** A secured coordinator that listens, with all that lets somebody in, and nothing that trains. */
export async function secured(more: Partial<SecurityOptions> = {}, status: object = {}) {
  const directory = scratchDirectory();
  const refusals: Refusal[] = [];
  const hellos: Extract<WorkerMessage, { kind: "hello" }>[] = [];
  const refused: string[] = [];
  const refusedCalls: string[] = [];
  const security = await RunSecurity.open({
    ...{ run: "r", directory, hosts: ["127.0.0.1"], lifetime: HOUR, supplied: null },
    onRefused: (refusal) => refusals.push(refusal),
    onRevoked: () => access.tellAll(),
    ...more,
  });
  const sessions = new Sessions(2, {
    onHello: (hello) => {
      hellos.push(hello);
      access.tell(hello.incarnation);
    },
    onMessage() {},
    onEnd() {},
    onRefused: (_who, reason, code) => {
      refused.push(reason);
      refusedCalls.push(code);
    },
  });
  const stopped: string[] = [];
  const server = new CoordinatorServer(
    {
      ...{
        run: "r",
        sessions,
        checkpoints: {} as never,
        data: {} as never,
        dialBack: new DialBack({
          dial: (to, incarnation) => reach(to, incarnation, security.trust),
          workers: () => hellos,
          send: (to, message) => sessions.send(to, message),
          nats: null,
        }),
        status: () => ({ here: true, ...status }),
        inject: () => "",
      },
      stop: (reason) => stopped.push(reason),
      access: (request) => access.control(request),
      predictions() {},
      onRefused: (code) => refusedCalls.push(code),
    },
    security,
  );
  const address = await server.start(bindingOf("127.0.0.1"));
  onTestFinished(() => server.close());
  const links = new JoinLinks(security, splitAddress(address)!);
  const access = new AccessControl({ security, links, nats: null }, sessions, () => hellos);
  const token = (lifetime: number | null = HOUR, uses: number | null = null): JoinToken =>
    parseLink(links.create({ lifetime, uses, note: "" })).token!;
  const join_ = async (incarnation: typeof A, by = token()) => {
    const identity = incarnation === A ? first : second;
    return new Trust((await joinOnce(address, by, { identity, name: incarnation })).credentials);
  };
  return {
    directory,
    address,
    security,
    sessions,
    access,
    links,
    refusals,
    hellos,
    refused,
    refusedCalls,
    stopped,
    token,
    join: join_,
  };
}

/** A client that is closed at the end of the test. */
export function dial(address: string, trust: Trust | null): CoordinatorClient {
  const client = coordinatorClient(address, { trust, ownConnection: true });
  onTestFinished(() => client.close());
  return client;
}

/** Opens a session. @returns kinds of messages and codes of errors, as they come */
export function greet(address: string, trust: Trust, incarnation: string): string[] {
  const call = dial(address, trust).session();
  const heard: string[] = [];
  call.on("data", ({ kind }: { kind: string }) => heard.push(kind));
  call.on("error", (error) => heard.push(codeOf(error)));
  const hello = {
    ...{ incarnation, name: incarnation, host: "h", pid: 1, version: "0", address: "127.0.0.1:1" },
    ...{ httpAddress: "", labels: {}, promised: null, standing: null },
  };
  call.write({ kind: "hello", hello });
  return heard;
}

export const status = (client: CoordinatorClient): Promise<{ readonly json: string }> =>
  unary((done) => client.getStatus({}, { deadline: Date.now() + 5000 }, done));

/** The code in front of, or behind, a refusal's sentence; the whole of it where there is none. */
export const codeOf = (error: unknown): string => {
  const { code, details, message } = error as { code?: unknown; details?: string; message: string };
  if (typeof code === "string") return code;
  return /LS_[A-Z_]+/.exec(details ?? message)?.[0] ?? message;
};

export const failure = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "no failure",
    (error: unknown) => codeOf(error),
  );
