import { type ChildProcess, fork } from "node:child_process";
import { LockstepError } from "../../shared/errors.ts";
import type { View } from "../../shared/protocol/view.ts";
import type { WireFormat } from "../exchange/chunk.ts";
import { WORKER_NODE_OPTIONS } from "../node-options.ts";
import type { BenchMemberOptions } from "./bench-member.ts";
import { incarnationOf, viewOf } from "./bench-view.ts";
import { type Spread, spreadOf } from "./spread.ts";

const WARM_UP = 5;

export interface AllreduceOptions {
  /** Processes on this machine. */
  readonly members: number;
  /** Millions of bytes of float32 gradients. */
  readonly megabytes: number;
  readonly wire: WireFormat;
  readonly tries: number;
}

export type AllreduceRequest =
  | ({ readonly kind: "setup" } & Omit<BenchMemberOptions, "shards" | "trust">)
  | { readonly kind: "view"; readonly view: View; readonly bare: readonly string[] }
  | { readonly kind: "step"; readonly step: number }
  /** Sends so many bytes to every peer, through gRPC alone. */
  | { readonly kind: "bare"; readonly bytesToPeer: number }
  | { readonly kind: "stop" };

export type AllreduceReply =
  | { readonly kind: "listening"; readonly address: string; readonly bare: string }
  | { readonly kind: "reduced"; readonly millis: number; readonly cpuMillis: number; readonly bytesSent: number };

export interface AllreduceFigures extends AllreduceOptions {
  /** Of the slowest member, from publishing its nodes to the whole reduced vector, hashes checked. */
  readonly millis: Spread;
  /** CPU time of all members together. */
  readonly cpuMillis: Spread;
  /** The same bytes through the same gRPC, in turns with it, without sums, hashes and placing: the limit. */
  readonly bareMillis: Spread;
  readonly bareCpuMillis: Spread;
  /** bareMillis / millis. */
  readonly ofLimit: number;
  /** The same of CPU times: what to read on a busy machine. */
  readonly ofLimitCpu: number;
}

type Reduced = Extract<AllreduceReply, { readonly kind: "reduced" }>;

/**
 * Times the all-reduce between real processes over loopback.
 * @param program path of the built allreduce-main.js
 * @throws LockstepError LS_BENCH where a process died
 */
export async function benchAllreduce(program: string, options: AllreduceOptions): Promise<AllreduceFigures> {
  const { members, megabytes, wire, tries } = options;
  const children = Array.from({ length: members }, () => fork(program, { execArgv: [...WORKER_NODE_OPTIONS] }));
  try {
    const floats = Math.floor((megabytes * 1e6) / 4);
    const listening = await Promise.all(
      children.map((child, index) =>
        asked<Extract<AllreduceReply, { kind: "listening" }>>(child, {
          ...{ kind: "setup", index, self: incarnationOf(index), floats, wire },
        }),
      ),
    );
    const view = viewOf(listening.map(({ address }) => address));
    for (const child of children) send(child, { kind: "view", view, bare: listening.map(({ bare }) => bare) });
    const all = (request: AllreduceRequest) => Promise.all(children.map((child) => asked<Reduced>(child, request)));
    const [reduced, bare]: [Reduced[][], Reduced[][]] = [[], []];
    for (let step = 0; step < WARM_UP + tries; step++) {
      const exchanged = await all({ kind: "step", step });
      // Segments differ by a block; on average every pair exchanges this much.
      const bytes = exchanged.reduce((sum, { bytesSent }) => sum + bytesSent, 0);
      const sent = await all({ kind: "bare", bytesToPeer: Math.ceil(bytes / members / (members - 1)) });
      if (step < WARM_UP) continue;
      reduced.push(exchanged);
      bare.push(sent);
    }
    const slowest = (results: Reduced[][]) => spreadOf(results.map((each) => Math.max(...each.map((r) => r.millis))));
    const millis = slowest(reduced);
    const bareMillis = slowest(bare);
    const together = (results: Reduced[][]) =>
      spreadOf(results.map((each) => each.reduce((sum, r) => sum + r.cpuMillis, 0)));
    const [cpuMillis, bareCpuMillis] = [together(reduced), together(bare)];
    const ofLimit = bareMillis.median / millis.median;
    const ofLimitCpu = bareCpuMillis.median / cpuMillis.median;
    return { ...options, millis, cpuMillis, bareMillis, bareCpuMillis, ofLimit, ofLimitCpu };
  } finally {
    for (const child of children) send(child, { kind: "stop" });
  }
}

function send(child: ChildProcess, request: AllreduceRequest): void {
  if (child.connected) child.send(request, () => {});
}

function asked<Reply extends AllreduceReply>(child: ChildProcess, request: AllreduceRequest): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const died = (code: number | null) =>
      reject(new LockstepError("LS_BENCH", `A process of the benchmark ended with exit code ${code}.`));
    child.once("exit", died);
    child.once("message", (message) => {
      child.off("exit", died);
      resolve(message as Reply);
    });
    send(child, request);
  });
}
