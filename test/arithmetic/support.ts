import { type Arithmetic, loadArithmeticSync } from "../../worker/arithmetic/arithmetic.ts";

/** A small shared memory with vectors side by side, `stride` bytes apart. */
export class Bench {
  readonly memory = new WebAssembly.Memory({ initial: 64, maximum: 64, shared: true });
  readonly arithmetic: Arithmetic = loadArithmeticSync(this.memory);
  readonly stride: number;

  constructor(stride = 65536) {
    this.stride = stride;
  }

  at(index: number): number {
    return index * this.stride;
  }

  put(index: number, values: ArrayLike<number>): number {
    new Float32Array(this.memory.buffer, this.at(index), values.length).set(values);
    return this.at(index);
  }

  floats(index: number, n: number): Float32Array {
    return new Float32Array(this.memory.buffer, this.at(index), n);
  }
}
