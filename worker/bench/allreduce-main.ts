import { bindingOf } from "../../shared/rpc/service.ts";
import { MemberServer } from "../exchange/member-server.ts";
import type { AllreduceReply, AllreduceRequest } from "./allreduce.ts";
import { BareTransfer } from "./bare-transfer.ts";
import { BenchMember } from "./bench-member.ts";
import { SHARDS } from "./bench-view.ts";

/** One member of `bench allreduce`: does what the process that started it says. */
const reply = (message: AllreduceReply) => void process.send!(message);

let parts: { readonly member: BenchMember; readonly bare: BareTransfer; readonly index: number } | null = null;

async function setUp({ index, self, floats, wire }: Extract<AllreduceRequest, { kind: "setup" }>): Promise<void> {
  const server = new MemberServer();
  const bare = new BareTransfer(self);
  const address = await server.start(bindingOf("127.0.0.1"));
  const member = new BenchMember({ index, self, floats, wire, shards: SHARDS }, server);
  parts = { member, bare, index };
  reply({ kind: "listening", address, bare: await bare.start() });
}

async function runBare(bytesToPeer: number): Promise<void> {
  const cpu = process.cpuUsage();
  const millis = await parts!.bare.run(bytesToPeer);
  const { user, system } = process.cpuUsage(cpu);
  reply({ kind: "reduced", millis, cpuMillis: (user + system) / 1000, bytesSent: 0 });
}

process.on("message", (request: AllreduceRequest) => {
  if (request.kind === "setup") return void setUp(request);
  if (request.kind === "stop") process.exit(0);
  const { member, bare, index } = parts!;
  if (request.kind === "view") {
    member.open(request.view);
    bare.connect(request.bare.filter((_, i) => i !== index));
  } else if (request.kind === "step") {
    void member.allReduce(request.step).then((exchanged) => reply({ kind: "reduced", ...exchanged }));
  } else void runBare(request.bytesToPeer);
});
process.on("disconnect", () => process.exit(0));
