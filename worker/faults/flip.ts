import type { StateImage } from "../memory/plan.ts";

/** Flips the lowest bit of a byte, as a broken memory would. */
export function flipBit(memory: WebAssembly.Memory, address: number): void {
  new Uint8Array(memory.buffer)[address]! ^= 1;
}

/** Flips a bit of the live state. */
export function flipState(memory: WebAssembly.Memory, state: StateImage, where: "flip-weights" | "flip-slots"): void {
  flipBit(memory, (where === "flip-weights" ? state.weights : state.slots[0]!) + 1);
}
