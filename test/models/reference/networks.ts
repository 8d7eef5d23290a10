import { type Numbers, type Precision, type Tape, type Value, value } from "./tape.ts";

/**
 * The built-in models again, by hand, from the tables in the README: names of tensors are the only
 * thing that they share with the worker.
 */
export type Weights = ReadonlyMap<string, Value>;

export interface Forward {
  readonly logits: Value;
  /** Maps before pooling, [n, h, w, c]. */
  readonly features: Value;
  /** Batch mean and unbiased variance by batch-norm layer; empty in inference. */
  readonly statistics: ReadonlyMap<string, { readonly mean: Numbers; readonly variance: Numbers }>;
}

export interface Pass {
  readonly weights: Weights;
  readonly images: Value;
  readonly training: boolean;
  /** Multipliers of the pooled features in training; null without dropout. */
  readonly mask: ArrayLike<number> | null;
}

const EPSILON = 1e-5;

class Network {
  readonly tape: Tape;
  readonly statistics = new Map<string, { mean: Numbers; variance: Numbers }>();
  readonly #pass: Pass;

  constructor(tape: Tape, pass: Pass) {
    this.tape = tape;
    this.#pass = pass;
  }

  weight(name: string): Value {
    const found = this.#pass.weights.get(name);
    if (found === undefined) throw new RangeError(`no tensor ${name}`);
    return found;
  }

  convNorm(x: Value, conv: string, norm: string, stride: number, between = (y: Value) => y): Value {
    const y = between(this.tape.conv(x, this.weight(`${conv}/kernel`), stride));
    const [gamma, beta] = [this.weight(`${norm}/gamma`), this.weight(`${norm}/beta`)];
    if (!this.#pass.training) {
      const [mean, variance] = [this.weight(`${norm}/moving_mean`), this.weight(`${norm}/moving_variance`)];
      return this.tape.normalise(y, gamma, beta, mean, variance, EPSILON);
    }
    const normal = this.tape.batchNorm(y, gamma, beta, EPSILON);
    this.statistics.set(norm, { mean: normal.mean, variance: normal.unbiased });
    return normal.y;
  }

  end(features: Value): Forward {
    let pooled = this.tape.globalAverage(features);
    if (this.#pass.training && this.#pass.mask !== null) pooled = this.tape.mask(pooled, this.#pass.mask);
    const logits = this.tape.dense(pooled, this.weight("logits/kernel"), this.weight("logits/bias"));
    return { logits, features, statistics: this.statistics };
  }
}

/** Three convolutions (5x5 of `stride`, 3x3, 3x3), pooling after the first two, global average, dense. */
export function alexnetForward(tape: Tape, pass: Pass, stride: number): Forward {
  const net = new Network(tape, pass);
  let x = tape.maxPool(tape.relu(net.convNorm(pass.images, "conv1", "conv1_norm", stride)), 2, 2);
  x = tape.maxPool(tape.relu(net.convNorm(x, "conv2", "conv2_norm", 1)), 2, 2);
  return net.end(tape.relu(net.convNorm(x, "conv3", "conv3_norm", 1)));
}

/** Stem, stacks of basic blocks (averaging and projecting shortcuts where the shape changes), global average, dense. */
export function resnetForward(tape: Tape, pass: Pass, blocks: readonly number[], stemStride: number): Forward {
  const net = new Network(tape, pass);
  let x = tape.relu(net.convNorm(pass.images, "stem", "stem_norm", stemStride));
  blocks.forEach((length, s) => {
    for (let b = 0; b < length; b++) {
      const name = `stack${s + 1}_block${b + 1}`;
      const stride = s > 0 && b === 0 ? 2 : 1;
      const projected = pass.weights.has(`${name}_project/kernel`);
      let shortcut = stride === 2 ? tape.averagePool(x, 2, 2) : x;
      if (projected) shortcut = net.convNorm(shortcut, `${name}_project`, `${name}_project_norm`, 1);
      const inner = tape.relu(net.convNorm(x, `${name}_conv1`, `${name}_norm1`, stride));
      x = tape.relu(tape.add(net.convNorm(inner, `${name}_conv2`, `${name}_norm2`, 1), shortcut));
    }
  });
  return net.end(x);
}

/** Stem, three stages of convolution, pool, normalisation and a residual pair, global average, dense. */
export function resnet11Forward(tape: Tape, pass: Pass, stemStride: number): Forward {
  const net = new Network(tape, pass);
  let x = tape.relu(net.convNorm(pass.images, "stem", "stem_norm", stemStride));
  for (const stage of ["stage1", "stage2", "stage3"]) {
    const pooled = (y: Value) => tape.maxPool(y, 2, 2);
    x = tape.relu(net.convNorm(x, `${stage}_conv`, `${stage}_conv_norm`, 1, pooled));
    const first = tape.relu(net.convNorm(x, `${stage}_pair1`, `${stage}_pair1_norm`, 1));
    x = tape.add(x, tape.relu(net.convNorm(first, `${stage}_pair2`, `${stage}_pair2_norm`, 1)));
  }
  return net.end(x);
}

/** Weights from named float32 tensors. */
export const weightsOf = (
  tensors: Iterable<{ name: string; shape: readonly number[]; data: ArrayLike<number> }>,
  precision: Precision = Float64Array,
): Weights => new Map([...tensors].map(({ name, shape, data }) => [name, value(shape, data, precision)]));
