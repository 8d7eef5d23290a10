import { networkInterfaces } from "node:os";
import { Server } from "@grpc/grpc-js";
import { LockstepError, sentenceOf } from "../../shared/errors.ts";
import {
  ANY_PORT,
  advertisedHost,
  hostPort,
  isLoopback,
  type Ports,
  splitAddress,
} from "../../shared/process/addresses.ts";
import { type CoordinatorClient, coordinatorClient, type ReachReply, unary } from "../../shared/rpc/clients.ts";
import { reach } from "../../shared/rpc/reach.ts";
import { channelOptions, grpc, listen } from "../../shared/rpc/service.ts";
import type { JoinLink } from "../../shared/security/join-link.ts";
import { Trust } from "../../shared/security/trust.ts";
import { WorkerSecurity } from "../../worker/security/entrance.ts";
import { type Identity, joinOnce, newIdentity } from "../../worker/security/obtain.ts";
import { type Finding, finding } from "../setup/finding.ts";
import { type RunStatus, runStatusSchema } from "../up/status.ts";
import { dialPort } from "./dial.ts";

export interface PeerOptions {
  /** Where a worker of this machine would listen, and what others would dial; null: as it would find out by itself. */
  readonly listen?: string | null;
  readonly advertise?: string | null;
  readonly ports?: Ports;
  /** Certificates of the user's own. */
  readonly trust?: Trust | null;
}

const CALL_MILLIS = 10_000;
/** Workers that are dialled at a time. */
const ABREAST = 16;
const MOST_NAMED = 5;
const FIREWALL = "let the port through the firewalls in between; --ports says which ones a machine uses";

/**
 * Whether this machine and a run reach each other as a worker needs it: the coordinator, its NATS server and its workers
 * from here, and this machine from the coordinator and the workers. It joins the run for as long as that takes, and works for nobody.
 */
export async function examinePeer(link: JoinLink, options: PeerOptions = {}): Promise<Finding[]> {
  const { host, port } = splitAddress(link.address)!;
  const first = await dialPort(host, port);
  if (first.kind === "failed") return [finding("coordinator", false, `${link.address}: ${first.why}`, first.mend)];
  const reached = finding("coordinator", true, `${link.address} is reached in ${first.millis.toFixed(1)} ms`, null);
  const identity = newIdentity();
  try {
    const entrance = await enter(link, identity, options);
    return entrance === null
      ? [reached, ONE_WAY]
      : [reached, ...(await examineRun(link.address, identity, entrance, options))];
  } catch (error) {
    return [reached, identityLacks(error)];
  }
}

const ONE_WAY = finding(
  "the way back",
  false,
  "not examined: the coordinator dials only who shows a token",
  "give the whole link: lockstep://host:port/token",
  true,
);

const identityLacks = (error: unknown): Finding =>
  finding(
    "token",
    false,
    sentenceOf(error),
    (error instanceof LockstepError && error.hint) || "make a new link: npx lockstep token create RUN",
  );

interface Entrance {
  readonly trust: Trust | null;
  /** By which address of this machine the coordinator is reached. */
  readonly localAddress: string;
}

/** null: a machine beyond this one, and nothing to show it. */
async function enter({ address, token }: JoinLink, identity: Identity, options: PeerOptions): Promise<Entrance | null> {
  const here = options.listen ?? "127.0.0.1";
  if (options.trust) return { trust: options.trust, localAddress: here };
  if (token !== null) {
    const { credentials, localAddress } = await joinOnce(address, token, { identity, name: "doctor" });
    return { trust: new Trust(credentials), localAddress };
  }
  return isLoopback(splitAddress(address)!.host) ? { trust: null, localAddress: here } : null;
}

async function examineRun(
  address: string,
  { incarnation }: Identity,
  { trust, localAddress }: Entrance,
  options: PeerOptions,
): Promise<Finding[]> {
  const client = coordinatorClient(address, { trust, ownConnection: true });
  const server = new Server(channelOptions());
  const security = trust === null ? null : new WorkerSecurity(trust, () => {});
  const gate = security?.gate(server) ?? null;
  try {
    const status = await ask<{ readonly json: string }>(client, (c, rest, done) => c.getStatus({}, rest, done));
    const run = runStatusSchema.parse(JSON.parse(status.json));
    const host = options.listen ?? localAddress;
    const advertise = advertisedHost(host, options.advertise ?? null, networkInterfaces());
    const own = await listen(server, { host, ports: options.ports ?? ANY_PORT, advertise }, gate);
    const back = await ask<ReachReply>(client, (c, rest, done) =>
      c.reach({ address: own, incarnation }, rest, done),
    ).catch((error: grpc.ServiceError) => error);
    const nats = back instanceof Error || back.nats === "" ? [] : [await natsFinding(back.nats)];
    return [
      finding("run", true, `${run.run}, step ${run.step} of ${run.steps}`, null),
      backFinding(own, back),
      ...nats,
      ...(await workerFindings(run, trust)),
    ];
  } catch (error) {
    return [finding("run", false, whyOf(error), (error instanceof LockstepError && error.hint) || FIREWALL)];
  } finally {
    client.close();
    gate?.close();
    server.forceShutdown();
  }
}

type Call<Reply> = (
  client: CoordinatorClient,
  options: grpc.CallOptions,
  done: grpc.requestCallback<Reply>,
) => grpc.ClientUnaryCall;

const ask = <Reply>(client: CoordinatorClient, call: Call<Reply>): Promise<Reply> =>
  unary<Reply>((done) => call(client, { deadline: Date.now() + CALL_MILLIS }, done));

const whyOf = (error: unknown): string => (error as { readonly details?: string }).details || sentenceOf(error);

function backFinding(own: string, back: ReachReply | grpc.ServiceError): Finding {
  const what = "the way back";
  if (back instanceof Error) {
    const old = back.code === grpc.status.UNIMPLEMENTED;
    return finding(what, false, old ? "the coordinator is of a version that cannot try it" : whyOf(back), null, old);
  }
  const others = back.workers === 0 ? "" : ` and ${back.workers} worker${back.workers === 1 ? "" : "s"}`;
  const lacks = [...(back.failure === "" ? [] : [`the coordinator: ${back.failure}`]), ...back.failures];
  if (lacks.length === 0)
    return finding(
      what,
      true,
      `the coordinator${others} reach${others === "" ? "es" : ""} this machine at ${own}`,
      null,
    );
  const mend = `${FIREWALL}; --advertise says another address of this machine`;
  return finding(what, false, `not all reach this machine at ${own}: ${named(lacks)}`, mend);
}

async function natsFinding(url: string): Promise<Finding> {
  const { hostname, port } = new URL(url);
  const dialled = await dialPort(hostname.replace(/^\[|\]$/g, ""), Number(port || 4222));
  const address = hostPort(hostname, Number(port || 4222));
  if (dialled.kind === "reached") return finding("NATS", true, `${address} is reached`, null);
  // Runs do without broadcasts.
  return finding("NATS", false, `${address}: ${dialled.why}; this machine would not broadcast`, dialled.mend, true);
}

/** Dials every worker of the run as another worker does, and knows it by its certificate. */
async function workerFindings({ workers }: RunStatus, trust: Trust | null): Promise<Finding[]> {
  const open = workers.filter(({ address }) => address !== "");
  const lost: string[] = [];
  for (let from = 0; from < open.length; from += ABREAST) {
    const some = open.slice(from, from + ABREAST);
    const failures = await Promise.all(some.map(({ address, incarnation }) => reach(address, incarnation, trust)));
    failures.forEach((why, i) => {
      if (why !== null) lost.push(`${some[i]!.name} at ${some[i]!.address}: ${why}`);
    });
  }
  if (open.length === 0) return [finding("workers", true, "the run has none yet", null)];
  if (lost.length === 0) return [finding("workers", true, `all ${open.length} are reached`, null)];
  return [finding("workers", false, `${lost.length} of ${open.length} are not reached: ${named(lost)}`, FIREWALL)];
}

/** The first of them, and how many more there are. */
function named(all: readonly string[]): string {
  const more = all.length > MOST_NAMED ? [`and ${all.length - MOST_NAMED} more`] : [];
  return [...all.slice(0, MOST_NAMED), ...more].join("; ");
}
