import { type ChildProcess, spawn } from "node:child_process";
import { Authority } from "../../../coordinator/security/authority.ts";
import { builtProgram } from "../../../deploy/up/built.ts";
import { hostPort } from "../../../shared/process/addresses.ts";
import { incarnationOf, SHARDS, viewOf } from "../../../worker/bench/bench-view.ts";
import type { WireFormat } from "../../../worker/exchange/chunk.ts";
import { WORKER_NODE_OPTIONS } from "../../../worker/node-options.ts";
import type { Network } from "../../hosts/network.ts";
import type { LinksReply, LinksRequest, TrainedStep } from "./messages.ts";

export interface HostsOptions {
  readonly hosts: number;
  /** Bytes of float32 gradients. */
  readonly bytes: number;
  readonly wire: WireFormat;
  /** Mutual TLS, as between the machines of a run. */
  readonly secured: boolean;
  /** How much longer the way to each host is, in milliseconds. */
  readonly delayMillis: number;
}

type ReplyOf<Kind extends LinksReply["kind"]> = Extract<LinksReply, { readonly kind: Kind }>;

/** One member on each host of a network, in one view. */
export class Hosts {
  readonly #children: readonly ChildProcess[];
  readonly #relays: ChildProcess[] = [];
  #step = 0;

  private constructor(children: readonly ChildProcess[]) {
    this.#children = children;
  }

  static async start(network: Network, options: HostsOptions): Promise<Hosts> {
    const { hosts, bytes, wire, secured, delayMillis } = options;
    const program = builtProgram("test/bench/links/member-main.js");
    const children = Array.from({ length: hosts }, (_, host) =>
      startOn(network, host, [process.execPath, ...WORKER_NODE_OPTIONS, program]),
    );
    const started = new Hosts(children);
    try {
      const authority = secured ? (await Authority.create("bench")).authority : null;
      const floats = Math.floor(bytes / 4);
      const listening = await started.#all<"listening">(async (index) => {
        const self = incarnationOf(index);
        const credentials = (await authority?.equip({ role: "worker", name: self }, 3_600_000)) ?? null;
        return {
          ...{ kind: "setup", index, self, floats, wire, shards: SHARDS, credentials },
          host: network.address(index),
        };
      });
      const addresses = listening.map(({ address }) => address);
      const dialled = delayMillis === 0 ? addresses : await started.#lengthen(network, addresses, delayMillis);
      const view = viewOf(dialled);
      const raw = listening.map((each) => each.raw);
      await started.#all<"connected">(() => ({ kind: "view", view, raw }));
      return started;
    } catch (error) {
      started.stop();
      throw error;
    }
  }

  /** Steps by member. */
  async train(steps: number, computeMillis: number): Promise<readonly (readonly TrainedStep[])[]> {
    const from = this.#step;
    this.#step += steps;
    const trained = await this.#all<"trained">(() => ({ kind: "train", from, steps, computeMillis }));
    return trained.map((each) => each.steps);
  }

  /** Milliseconds of steps that sleep alone, by member. */
  async sleep(steps: number, computeMillis: number): Promise<readonly (readonly number[])[]> {
    const slept = await this.#all<"slept">(() => ({ kind: "sleep", steps, computeMillis }));
    return slept.map(({ stepMillis }) => stepMillis);
  }

  /** Milliseconds of the slowest host. */
  async raw(bytesToPeer: number): Promise<number> {
    const sent = await this.#all<"sent">(() => ({ kind: "raw", bytesToPeer }));
    return Math.max(...sent.map(({ millis }) => millis));
  }

  stop(): void {
    for (const child of this.#children) if (child.connected) child.send({ kind: "stop" } satisfies LinksRequest);
    for (const relay of this.#relays) if (relay.connected) relay.disconnect();
  }

  /** Where a longer way to each of these addresses begins. */
  #lengthen(network: Network, addresses: readonly string[], millis: number): Promise<string[]> {
    return Promise.all(
      addresses.map((address, host) => {
        const [, port] = address.split(":");
        const program = builtProgram("test/bench/links/relay-main.js");
        const relay = startOn(network, host, [process.execPath, program, network.address(host), port!, String(millis)]);
        this.#relays.push(relay);
        return new Promise<string>((resolve, reject) => {
          relay.once("exit", reject);
          relay.once("message", (its) => resolve(hostPort(network.address(host), Number(its))));
        });
      }),
    );
  }

  #all<Kind extends LinksReply["kind"]>(
    requestFor: (index: number) => LinksRequest | Promise<LinksRequest>,
  ): Promise<ReplyOf<Kind>[]> {
    return Promise.all(
      this.#children.map(
        (child, index) =>
          new Promise<ReplyOf<Kind>>((resolve, reject) => {
            const died = (code: number | null) => reject(new Error(`host ${index} ended with exit code ${code}`));
            child.once("exit", died);
            child.once("error", reject);
            child.once("message", (reply) => {
              child.off("exit", died);
              child.off("error", reject);
              resolve(reply as ReplyOf<Kind>);
            });
            void Promise.resolve(requestFor(index)).then((request) => child.send(request), reject);
          }),
      ),
    );
  }
}

function startOn(network: Network, host: number, program: readonly string[]): ChildProcess {
  const [command, ...args] = network.on(host, program);
  return spawn(command!, args, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
}
