import { coordinatorClient, memberClient, unary } from "../../shared/rpc/clients.ts";
import type { Envelope } from "../../shared/rpc/convert.ts";
import { channelOptions, MAX_MESSAGE } from "../../shared/rpc/service.ts";
import { COORDINATOR_NAME, WORKER_NAME } from "../../shared/security/names.ts";
import { Trust } from "../../shared/security/trust.ts";
import { joinOnce, newIdentity, requestKey } from "../../worker/security/obtain.ts";
import {
  type Attack,
  bytesToCall,
  firstOf,
  memberOf,
  PATIENCE,
  soon,
  type Target,
  verdict,
  withClient,
} from "./attempt.ts";

/** What somebody can try who has a certificate of the run: a worker that was let in by its token and means ill. */

const { incarnation: SELF, keys } = newIdentity();
let certified: Promise<Trust> | null = null;
const trustIn = ({ coordinator, tokens }: Target): Promise<Trust> => {
  const joiner = { identity: { incarnation: SELF, keys }, name: "insider" };
  certified ??= joinOnce(coordinator, tokens.insider, joiner).then(({ credentials }) => new Trust(credentials));
  return certified;
};

const toCoordinator = async <T>(target: Target, use: (client: ReturnType<typeof coordinatorClient>) => Promise<T>) =>
  withClient(coordinatorClient(target.coordinator, { trust: await trustIn(target), ownConnection: true }), use);
const toMember = async <T>(target: Target, use: (client: ReturnType<typeof memberClient>) => Promise<T>) =>
  withClient(memberClient(memberOf(target), { trust: await trustIn(target), ownConnection: true }), use);

interface Known {
  readonly view: { readonly term: number; readonly number: number };
  /** Of whoever listens at `memberOf`. */
  readonly incarnation: string;
}

/** A worker may ask where the run stands. */
const look = (target: Target): Promise<Known> =>
  toCoordinator(target, async (client) => {
    const { json } = await unary<{ readonly json: string }>((done) => client.getStatus({}, soon(), done));
    const { view, workers } = JSON.parse(json) as {
      readonly view: string;
      readonly workers: readonly { readonly address: string; readonly incarnation: string }[];
    };
    const [term, number] = view.split(".").map(Number);
    const { incarnation } = workers.find(({ address }) => address === memberOf(target))!;
    return { view: { term: term!, number: number! }, incarnation };
  });

/** A stream of sums, as members open it. */
async function exchange(target: Target, change: (known: Known) => object): Promise<string> {
  const known = await look(target);
  const request = { run: target.run, view: known.view, from: SELF, to: known.incarnation, ...change(known) };
  return toMember(target, (client) => verdict(lastOf(client.exchange(request))));
}

/** A member holds for a while whoever calls early. */
const HOLD_MILLIS = 20_000;
const lastOf = (stream: ReturnType<ReturnType<typeof memberClient>["exchange"]>) =>
  new Promise((resolve, reject) => {
    stream.on("data", resolve);
    stream.on("error", reject);
    setTimeout(() => reject(new Error("silence")), HOLD_MILLIS).unref();
  });

const hello = (incarnation: string): Envelope => ({
  kind: "hello",
  hello: {
    ...{ incarnation, name: "../../insider", host: "h", pid: 1, version: "0", address: "127.0.0.1:1" },
    ...{ httpAddress: "", labels: {}, promised: null, standing: null },
  },
});

/** What the coordinator says last over a session that begins so. */
const session = (target: Target, first: Envelope): Promise<string> =>
  toCoordinator(target, (client) => {
    const call = client.session();
    return new Promise((resolve) => {
      let heard = "silence";
      call.on("data", ({ kind, rejected }: Envelope & { readonly rejected?: { readonly code?: string } }) => {
        heard = kind === "rejected" ? `rejected ${rejected?.code}` : String(kind);
      });
      call.on("error", ({ message }) => resolve(message));
      call.on("end", () => resolve(heard));
      setTimeout(() => resolve(heard), PATIENCE).unref();
      call.write(first);
    });
  });

async function bytesTo(target: Target, to: "coordinator" | "member", path: string, bytes: Buffer): Promise<string> {
  const [name, address] =
    to === "coordinator" ? [COORDINATOR_NAME, target.coordinator] : [WORKER_NAME, memberOf(target)];
  const { credentials, options } = (await trustIn(target)).channel(name, address);
  const unbounded = { "grpc.max_send_message_length": -1 };
  return verdict(bytesToCall(address, [credentials, { ...channelOptions(), ...options, ...unbounded }], path, bytes));
}

const control = (target: Target, action: string, detail: string): Promise<string> =>
  toCoordinator(target, (client) =>
    verdict(unary((done) => client.control({ action, target: "", detail }, soon(), done))),
  );

export const INSIDERS: readonly Attack[] = [
  {
    name: "an insider asks for the state of another run",
    expected: /LS_WRONG_RUN/,
    attempt: (target) =>
      toMember(target, (client) =>
        verdict(firstOf(client.pullState({ run: "another", step: 0, from: 0, to: 8, snapshot: false }))),
      ),
  },
  {
    name: "an insider asks for bytes that no state has",
    expected: /LS_MALFORMED|LS_STATE_MOVED/,
    attempt: (target) =>
      toMember(target, (client) =>
        verdict(firstOf(client.pullState({ run: target.run, step: 0, from: 2 ** 40, to: 2 ** 41, snapshot: false }))),
      ),
  },
  {
    name: "an insider exchanges in a view that it is not in",
    expected: /LS_NOT_A_MEMBER/,
    attempt: (target) => exchange(target, () => ({})),
  },
  {
    name: "an insider exchanges in a view that nobody has heard of",
    expected: /LS_UNKNOWN_VIEW/,
    lasts: true,
    attempt: (target) => exchange(target, () => ({ view: { term: 4_000_000_000, number: 1 } })),
  },
  {
    name: "an insider exchanges in the name of a member",
    expected: /LS_NOT_ALLOWED/,
    attempt: (target) => exchange(target, ({ incarnation }) => ({ from: incarnation })),
  },
  {
    name: "an insider exchanges in another run",
    expected: /LS_WRONG_RUN/,
    attempt: (target) => exchange(target, () => ({ run: "another" })),
  },
  {
    name: "an insider opens a session in the name of a member",
    expected: /^rejected LS_WRONG_INCARNATION$/,
    attempt: async (target) => session(target, hello((await look(target)).incarnation)),
  },
  {
    name: "a session that begins with what is no hello",
    expected: /^rejected LS_MALFORMED$/,
    attempt: (target) => session(target, { kind: "leaving", leaving: { reason: "x" } }),
  },
  {
    name: "a session of another version whose worker is called ../../insider",
    expected: /^rejected LS_[A-Z_]+$/,
    attempt: (target) => session(target, hello(SELF)),
  },
  {
    name: "an insider stops the run",
    expected: /LS_NOT_ALLOWED/,
    attempt: (target) => control(target, "stop", "now"),
  },
  {
    name: "an insider makes a token",
    expected: /LS_NOT_ALLOWED/,
    attempt: (target) => control(target, "token-create", "{}"),
  },
  {
    name: "an insider asks for images by the path of another file",
    expected: /LS_DATA_ASKED/,
    attempt: (target) =>
      toCoordinator(target, (client) =>
        verdict(firstOf(client.pullData({ run: target.run, part: "../../../../etc/passwd", ids: [0] }))),
      ),
  },
  {
    name: "an insider hands over a trace under the path of another file",
    expected: /LS_TRACE_PART/,
    attempt: (target) =>
      toCoordinator(target, (client) => {
        const part = { run: target.run, incarnation: "../../config" as never, json: "{}" };
        return verdict(unary((done) => client.pushTrace(part, soon(), done)));
      }),
  },
  {
    name: "an insider has the coordinator dial somebody else",
    expected: /LS_NOT_ALLOWED/,
    attempt: (target) =>
      toCoordinator(target, (client) => {
        const request = { address: "127.0.0.1:22", incarnation: "f".repeat(16) };
        return verdict(unary((done) => client.reach(request, soon(), done)));
      }),
  },
  {
    name: "an insider renews in the name of somebody else",
    expected: /LS_MALFORMED/,
    attempt: async (target) => {
      const { authority } = (await trustIn(target)).current;
      const { request } = requestKey(authority, (await look(target)).incarnation);
      return toCoordinator(target, (client) => verdict(unary((done) => client.renew(request, soon(), done))));
    },
  },
  {
    name: "a call to the coordinator that is no protobuf",
    expected: /^INTERNAL$/,
    attempt: (target) => bytesTo(target, "coordinator", "/lockstep.v1.Coordinator/Control", Buffer.alloc(500, 0xff)),
  },
  {
    name: "a call to a member that is no protobuf",
    expected: /^INTERNAL$/,
    attempt: (target) => bytesTo(target, "member", "/lockstep.v1.Member/PullEntries", Buffer.alloc(500, 0xff)),
  },
  {
    name: "a message that is larger than any may be",
    expected: /^RESOURCE_EXHAUSTED$/,
    attempt: (target) =>
      bytesTo(target, "coordinator", "/lockstep.v1.Coordinator/GetStatus", Buffer.alloc(MAX_MESSAGE + 1)),
  },
];
