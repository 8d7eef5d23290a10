import { setTimeout as sleep } from "node:timers/promises";
import { bindingOf } from "../../../shared/rpc/service.ts";
import { Gate } from "../../../shared/security/gate.ts";
import { Trust } from "../../../shared/security/trust.ts";
import { BenchMember } from "../../../worker/bench/bench-member.ts";
import { MemberServer } from "../../../worker/exchange/member-server.ts";
import type { LinksReply, LinksRequest, TrainedStep } from "./messages.ts";
import { RawTransfer } from "./raw-transfer.ts";

/** A member on a host of its own: exchanges as a worker does, and sleeps where a worker computes. */
const raw = new RawTransfer();
let member: BenchMember | null = null;
let index = -1;

async function setUp(setup: Extract<LinksRequest, { kind: "setup" }>): Promise<LinksReply> {
  const trust = setup.credentials === null ? null : new Trust(setup.credentials);
  const refused = (refusal: object) => process.stderr.write(`${JSON.stringify(refusal)}\n`);
  const server = new MemberServer();
  const address = await server.start(
    bindingOf(setup.host),
    trust && {
      trust,
      gate: (members) =>
        new Gate({ trust, members, strangers: null, isRevoked: () => false, onRefused: (refusal) => refused(refusal) }),
    },
  );
  index = setup.index;
  member = new BenchMember({ ...setup, trust }, server);
  return { kind: "listening", address, raw: { host: setup.host, port: await raw.listen(setup.host) } };
}

/** What making gradients takes of the time is not slept as well. */
async function compute(until: number): Promise<void> {
  await sleep(Math.max(0, until - performance.now()));
}

async function train({ from, steps, computeMillis }: Extract<LinksRequest, { kind: "train" }>): Promise<LinksReply> {
  const trained: TrainedStep[] = [];
  for (let step = from; step < from + steps; step++) {
    const started = performance.now();
    const exchanged = await member!.step(step, () => compute(started + computeMillis));
    trained.push({ ...exchanged, stepMillis: performance.now() - started });
  }
  return { kind: "trained", steps: trained };
}

async function answer(request: Exclude<LinksRequest, { kind: "stop" }>): Promise<LinksReply> {
  switch (request.kind) {
    case "setup":
      return setUp(request);
    case "view":
      await raw.connect(request.raw.filter((_, i) => i !== index));
      member!.open(request.view);
      return { kind: "connected" };
    case "sleep": {
      const stepMillis: number[] = [];
      for (let step = 0; step < request.steps; step++) {
        const started = performance.now();
        await compute(started + request.computeMillis);
        stepMillis.push(performance.now() - started);
      }
      return { kind: "slept", stepMillis };
    }
    case "train":
      return train(request);
    case "raw":
      return { kind: "sent", millis: await raw.run(request.bytesToPeer) };
    default:
      return request satisfies never;
  }
}

process.on("message", (request: LinksRequest) => {
  if (request.kind === "stop") process.exit(0);
  void answer(request).then((reply) => process.send!(reply));
});
process.on("disconnect", () => process.exit(0));
