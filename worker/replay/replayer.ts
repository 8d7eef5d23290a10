import type { Config } from "../../shared/config/schema.ts";
import { LockstepError } from "../../shared/errors.ts";
import { SafetensorsFile } from "../../shared/model/safetensors.ts";
import type { ShardRange } from "../../shared/plan/tree.ts";
import type { ShardRecord } from "../../shared/protocol/trailer.ts";
import type { Tip } from "../../shared/protocol/view.ts";
import { type Arithmetic, loadArithmeticSync } from "../arithmetic/arithmetic.ts";
import { Compute, type ComputeReady } from "../compute/compute.ts";
import type { ComputeReply, ComputeRequest } from "../compute/messages.ts";
import { type Control, controlOf } from "../memory/control.ts";
import { copyHashed, ofStep } from "../memory/plan.ts";

type ReplyOf<Kind extends ComputeReply["kind"]> = Extract<ComputeReply, { readonly kind: Kind }>;

/** The only view of a replay. */
const VIEW = 1;

/**
 * A worker that is alone with a run's recipe and data: the compute thread of a worker, driven without coordinator and
 * peers. It computes exactly what one undisturbed worker would have computed.
 */
export class Replayer {
  readonly ready: ComputeReady;
  readonly #config: Config;
  readonly #compute: Compute;
  readonly #arithmetic: Arithmetic;
  readonly #control: Control;
  #tip: Tip;
  #settle: { readonly resolve: (reply: ComputeReply) => void; readonly reject: (error: Error) => void } | null = null;

  private constructor(config: Config, compute: Compute, ready: ComputeReady) {
    this.ready = ready;
    this.#config = config;
    this.#compute = compute;
    this.#arithmetic = loadArithmeticSync(ready.memory);
    this.#control = controlOf(ready.memory, ready.plan.control.address);
    this.#tip = ready.root;
    compute.listen(
      (reply) => this.#onReply(reply),
      (reason) => this.#settle?.reject(new LockstepError("LS_COMPUTE", `The replay ended: ${reason}.`)),
    );
  }

  /** Loads runtime, data and model; the state is the run's initial one. @throws LockstepError as Compute.start */
  static async start(config: Config): Promise<Replayer> {
    const { compute, ready } = await Compute.start(config);
    return new Replayer(config, compute, ready);
  }

  get tip(): Tip {
    return this.#tip;
  }

  /** The state image as it is now: weights, slots, moving average. A copy. */
  state(): Float32Array {
    const { address, floats } = this.ready.plan.state;
    return new Float32Array(this.ready.memory.buffer, address, floats).slice();
  }

  /** Loads a checkpoint's state. @throws LockstepError LS_SAFETENSORS, LS_CHECKPOINT */
  async load(file: string, tip: Tip): Promise<void> {
    const { state } = this.ready.plan;
    const checkpoint = await SafetensorsFile.open(file);
    try {
      const image = await checkpoint.allFloats();
      if (image.byteLength !== state.bytes)
        throw new LockstepError("LS_CHECKPOINT", `${file} has another size than the run's state.`);
      new Float32Array(this.ready.memory.buffer, state.address, state.floats).set(image);
    } finally {
      await checkpoint.close();
    }
    this.#compute.post({ kind: "replaced" });
    this.#tip = tip;
  }

  /** Computes one whole step and applies it; what each shard contributed. */
  async step(): Promise<readonly ShardRecord[]> {
    const { step, lineage } = this.#tip;
    const { plan } = this.ready;
    const { nodes, shards } = await this.#computed({ from: 0, to: this.#config.recipe.shards });
    copyHashed(this.#arithmetic, ofStep(plan.reduced, step), nodes[0]!);
    const samples = shards.reduce((sum, shard) => sum + shard.samples, 0);
    const idsDigests = shards.map(({ idsDigest }) => idsDigest);
    const request = { kind: "commit", viewTag: VIEW, step, parent: lineage, idsDigests, samples } as const;
    const updated = await this.#ask(request, "updated");
    this.#tip = { step: step + 1, lineage: updated.lineage, stateHash: updated.stateHash };
    return shards;
  }

  /** One shard's contribution to the next step: what a ledger would record of it, and the gradient itself (a copy). */
  async shard(shard: number): Promise<{ readonly record: ShardRecord; readonly gradient: Float32Array }> {
    const { nodes, shards } = await this.#computed({ from: shard, to: shard + 1 });
    const { memory, layout } = this.ready;
    const gradient = new Float32Array(memory.buffer, nodes[0]!.address, layout.vectorFloats).slice();
    return { record: shards[0]!, gradient };
  }

  close(): Promise<void> {
    return this.#compute.close();
  }

  #computed(shards: ShardRange): Promise<ReplyOf<"computed">> {
    const { commitWord } = this.#control;
    commitWord.tryClose();
    commitWord.open(VIEW, this.#tip.step);
    return this.#ask({ kind: "compute", viewTag: VIEW, step: this.#tip.step, shards }, "computed");
  }

  async #ask<Kind extends ComputeReply["kind"]>(request: ComputeRequest, kind: Kind): Promise<ReplyOf<Kind>> {
    const reply = await new Promise<ComputeReply>((resolve, reject) => {
      this.#settle = { resolve, reject };
      this.#compute.post(request);
    });
    if (reply.kind === "failed") throw new LockstepError(reply.code as `LS_${string}`, reply.message);
    if (reply.kind !== kind) throw new Error(`the compute thread answered ${reply.kind} to ${request.kind}`);
    return reply as ReplyOf<Kind>;
  }

  #onReply(reply: ComputeReply): void {
    if (reply.kind === "summed" || reply.kind === "spans") return;
    this.#settle?.resolve(reply);
    this.#settle = null;
  }
}
