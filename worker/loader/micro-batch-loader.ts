import type { Recipe } from "../../shared/config/schema.ts";
import type { Dataset } from "../../shared/data/dataset.ts";
import { LockstepError, sentenceOf } from "../../shared/errors.ts";
import { idsDigest } from "../../shared/plan/digest.ts";
import { Plan } from "../../shared/plan/plan.ts";
import { Augmenter } from "./augment.ts";
import type { Job } from "./board.ts";
import { Mixer } from "./mix.ts";
import { HEADER, headerOf, SLOT_STATE, type SlotLayout, sideOf, slotLayout } from "./slot.ts";

/** Makes the loader really feed an id not at all or twice, to show that the account of samples notices. */
export interface LoaderFault {
  readonly kind: "skip" | "repeat";
  readonly sample: number;
}

export interface LoaderParts {
  readonly memory: WebAssembly.Memory;
  readonly slots: readonly number[];
  readonly recipe: Recipe;
  readonly fault: LoaderFault | null;
  readonly dataset: Dataset;
}

/** Fills slots with prepared micro-batches. */
export class MicroBatchLoader {
  readonly #parts: LoaderParts;
  readonly #layout: SlotLayout;
  readonly #plan: Plan;
  readonly #augmenter: Augmenter;
  readonly #mixer: Mixer | null;
  readonly #stored: Uint8Array;

  /** @throws LockstepError LS_DATA_MISMATCH where the data set is not the recipe's. */
  constructor(parts: LoaderParts) {
    const { recipe, dataset } = parts;
    checkDataset(recipe, dataset);
    const { seed, shards, stepsPerEpoch } = recipe;
    const { channels, height, width } = dataset.shape;
    this.#parts = parts;
    this.#layout = slotLayout(recipe);
    this.#plan = new Plan({ labels: dataset.train.labels, seed, shards, stepsPerEpoch });
    this.#augmenter = new Augmenter(recipe.augmentation, dataset.shape, seed);
    this.#mixer = recipe.mixing === undefined ? null : new Mixer(recipe.mixing, channels, seed);
    this.#stored = new Uint8Array(channels * height * width);
  }

  /**
   * Loads a job's micro-batch into its slot and answers in the slot's header: ready, failed (after telling `fail` why),
   * or free where the pool dropped it meanwhile.
   */
  load(job: Job, fail: (reason: string) => void): void {
    const header = headerOf(this.#parts.memory, this.#parts.slots[job.slot]!);
    let answer: number = SLOT_STATE.failed;
    try {
      if (this.#fill(job, header)) answer = SLOT_STATE.ready;
    } catch (error) {
      fail(sentenceOf(error));
    }
    const before = Atomics.compareExchange(header, HEADER.state, SLOT_STATE.asked, answer);
    if (before === SLOT_STATE.dropped) Atomics.store(header, HEADER.state, SLOT_STATE.free);
  }

  /** False where it stopped because the slot was dropped. */
  #fill({ slot, step, shard }: Job, header: Int32Array): boolean {
    const { memory, slots, recipe, dataset } = this.#parts;
    const address = slots[slot]!;
    const epoch = Math.floor(step / recipe.stepsPerEpoch);
    const side = sideOf(recipe, epoch);
    const pixels = side * side * recipe.data.channels;
    const ids = this.#withFault(this.#plan.microBatch(step, shard));
    const labelsOut = new Int32Array(memory.buffer, address + this.#layout.labels, ids.length);
    const idsOut = new Int32Array(memory.buffer, address + this.#layout.ids, ids.length);
    const images = new Float32Array(memory.buffer, address + this.#layout.images, ids.length * pixels);
    for (const [i, id] of ids.entries()) {
      if (Atomics.load(header, HEADER.state) !== SLOT_STATE.asked) return false;
      dataset.train.read(id, this.#stored);
      this.#augmenter.train(this.#stored, epoch, id, side, images.subarray(i * pixels, (i + 1) * pixels));
      labelsOut[i] = dataset.train.labels[id]!;
      idsOut[i] = id;
    }
    if (this.#mixer !== null) {
      const { labels, shares } = this.#layout.mixed!;
      const otherLabels = new Int32Array(memory.buffer, address + labels, ids.length);
      const ownShares = new Float32Array(memory.buffer, address + shares, ids.length);
      this.#mixer.mix({ images, labels: labelsOut, ids: idsOut, otherLabels, shares: ownShares }, epoch, side);
    }
    const digest = BigInt(`0x${idsDigest(idsOut)}`);
    header[HEADER.samples] = ids.length;
    header[HEADER.side] = side;
    header[HEADER.digestLow] = Number(BigInt.asIntN(32, digest));
    header[HEADER.digestHigh] = Number(BigInt.asIntN(32, digest >> 32n));
    return true;
  }

  #withFault(ids: Int32Array): Int32Array {
    const { fault } = this.#parts;
    if (fault === null || !ids.includes(fault.sample)) return ids;
    const { kind, sample } = fault;
    return Int32Array.from([...ids].flatMap((id) => (id !== sample ? [id] : kind === "skip" ? [] : [id, id])));
  }
}

function checkDataset({ data }: Recipe, { shape, train, directory }: Dataset): void {
  const { trainImages, channels, height, width } = data;
  const same =
    train.count === trainImages &&
    shape.channels === channels &&
    shape.height === height &&
    shape.width === width &&
    train.labels.every((label) => label < data.classes);
  if (same) return;
  throw new LockstepError(
    "LS_DATA_MISMATCH",
    `The run was planned for ${trainImages} training images of ${channels}x${height}x${width} in ${data.classes} ` +
      `classes; ${directory} holds ${train.count} of ${shape.channels}x${shape.height}x${shape.width}.`,
    { hint: "Give the data set of the run with --data.", exitCode: 3 },
  );
}
