import { type Layout, TAIL } from "../../shared/model/layout.ts";

/** One shard's flat gradient vector, written tensor by tensor at the layout's offsets. */
export class GradientVector {
  /** Byte address in the shared memory. */
  readonly address: number;
  private readonly values: Float32Array;
  private readonly layout: Layout;
  private readonly samples: number;
  private readonly missing: Set<number>;
  private readonly onTensor: (index: number) => void;

  /**
   * @param address of the vector, which must be zero wherever no trainable tensor lies
   * @param onTensor called with a tensor's index in layout.trainable when its gradient has been written
   */
  constructor(
    layout: Layout,
    memory: WebAssembly.Memory,
    address: number,
    samples: number,
    onTensor: (index: number) => void,
  ) {
    this.layout = layout;
    this.address = address;
    this.values = new Float32Array(memory.buffer, address, layout.vectorFloats);
    this.samples = samples;
    this.missing = new Set(layout.trainable.keys());
    this.onTensor = onTensor;
  }

  /** @param index in layout.trainable */
  gradient(index: number, values: Float32Array): void {
    const { name, offset, size } = this.layout.trainable[index]!;
    if (values.length !== size) throw new RangeError(`gradient of ${name} has ${values.length} values`);
    this.values.set(values, offset);
    this.written(index);
  }

  /** Says that a gradient stands in the vector. */
  written(index: number): void {
    this.missing.delete(index);
    this.onTensor(index);
  }

  /** samples * mean or samples * unbiased variance, so that sums over shards divide into count-weighted means. */
  statistic(index: number, values: Float32Array): void {
    const { offset, size } = this.layout.statistics[index]!;
    for (let i = 0; i < size; i++) this.values[offset + i] = values[i]! * this.samples;
  }

  /** A weight that the loss does not depend on has the gradient zero. */
  finish(loss: number, correct: number): void {
    for (const index of this.missing) {
      const { offset, size } = this.layout.trainable[index]!;
      this.values.fill(0, offset, offset + size);
      this.onTensor(index);
    }
    const tail = this.values.subarray(this.layout.stateFloats);
    tail[TAIL.loss] = loss;
    tail[TAIL.correct] = correct;
    tail[TAIL.samples] = this.samples;
  }
}
