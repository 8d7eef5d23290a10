import { workerData } from "node:worker_threads";
import type { Recipe } from "../../shared/config/schema.ts";
import { openDataset } from "../../shared/data/dataset.ts";
import { sentenceOf } from "../../shared/errors.ts";
import { Board } from "./board.ts";
import { type LoaderFault, MicroBatchLoader } from "./micro-batch-loader.ts";

/** What a loader thread starts with. */
export interface LoaderData {
  readonly thread: number;
  readonly threads: number;
  readonly board: SharedArrayBuffer;
  readonly memory: WebAssembly.Memory;
  readonly slots: readonly number[];
  readonly dataDirectory: string;
  readonly recipe: Recipe;
  readonly fault: LoaderFault | null;
}

/** A loader thread: opens the data set, then fills slots as the board asks for them, until it is closed. */
function main(data: LoaderData): void {
  const { thread, threads, memory, slots, recipe, fault } = data;
  const board = new Board(slots.length, threads, data.board);
  process.on("exit", (code) => board.died(thread, `loader thread ${thread} ended with code ${code}`));
  try {
    const dataset = openDataset(data.dataDirectory, recipe.trainingPart);
    const loader = new MicroBatchLoader({ memory, slots, recipe, fault, dataset });
    for (let job = board.claim(thread); job !== null; job = board.claim(thread)) {
      loader.load(job, (reason) => board.failed(job.slot, reason));
      board.ring();
    }
    dataset.close();
  } catch (error) {
    board.died(thread, sentenceOf(error));
  }
}

main(workerData as LoaderData);
