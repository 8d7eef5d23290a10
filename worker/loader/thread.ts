import { parentPort, workerData } from "node:worker_threads";
import type { Recipe } from "../../shared/config/schema.ts";
import { openDataset } from "../../shared/data/dataset.ts";
import { Plan } from "../../shared/plan/plan.ts";
import { Augmenter } from "./augment.ts";
import { headerOf, SLOT_STATE, sideOf, slotLayout } from "./slot.ts";

/** What a loader thread starts with. */
export interface LoaderData {
  readonly memory: WebAssembly.Memory;
  readonly dataDirectory: string;
  readonly recipe: Recipe;
  readonly fault: LoaderFault | null;
}

/** Makes the loader really feed an id not at all or twice, to show that the account of samples notices. */
export interface LoaderFault {
  readonly kind: "skip" | "repeat";
  readonly sample: number;
}

export interface LoaderJob {
  readonly address: number;
  readonly step: number;
  readonly shard: number;
}

const { memory, dataDirectory, recipe, fault } = workerData as LoaderData;
const dataset = openDataset(dataDirectory);
const { seed, shards, stepsPerEpoch } = recipe;
const plan = new Plan({ labels: dataset.train.labels, seed, shards, stepsPerEpoch });
const augmenter = new Augmenter(recipe.augmentation, dataset.shape, seed);
const layout = slotLayout(recipe);
const { channels, height, width } = dataset.shape;
const image = new Uint8Array(channels * height * width);

parentPort!.on("message", (job: LoaderJob) => {
  const header = headerOf(memory, job.address);
  try {
    load(job, header);
    Atomics.store(header, 0, SLOT_STATE.ready);
  } catch (error) {
    Atomics.store(header, 0, SLOT_STATE.failed);
    parentPort!.postMessage({ failure: error instanceof Error ? error.message : String(error) });
  }
  Atomics.notify(header, 0);
});

function load({ address, step, shard }: LoaderJob, header: Int32Array): void {
  const epoch = Math.floor(step / stepsPerEpoch);
  const side = sideOf(recipe, epoch);
  const wanted = withFault([...plan.microBatch(step, shard)]);
  const labels = new Int32Array(memory.buffer, address + layout.labels, wanted.length);
  const ids = new Int32Array(memory.buffer, address + layout.ids, wanted.length);
  const pixels = side * side * channels;
  wanted.forEach((id, i) => {
    dataset.train.read(id, image);
    const into = new Float32Array(memory.buffer, address + layout.images + i * pixels * 4, pixels);
    augmenter.train(image, epoch, id, side, into);
    labels[i] = dataset.train.labels[id]!;
    ids[i] = id;
  });
  header[1] = wanted.length;
  header[2] = side;
}

function withFault(ids: number[]): number[] {
  if (fault === null) return ids;
  return ids.flatMap((id) => (id !== fault.sample ? [id] : fault.kind === "skip" ? [] : [id, id]));
}
