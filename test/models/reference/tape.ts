/**
 * Reverse-mode differentiation with plain loops, written from the textbook definitions for the tests. It shares no code with
 * the worker and uses no library. In float64 it is the reference; in float32, every stored number and every sum rounded,
 * it shows what float32 loses by the same formulas.
 */
export interface Value {
  readonly shape: readonly number[];
  readonly data: Numbers;
  readonly grad: Numbers;
  /** Of a weight: sums of the absolute values of the terms that its gradient is the sum of. */
  readonly terms: Float64Array;
}

export type Numbers = Float64Array | Float32Array;
export type Precision = typeof Float64Array | typeof Float32Array;

const count = (shape: readonly number[]) => shape.reduce((product, extent) => product * extent, 1);

export function value(shape: readonly number[], data: ArrayLike<number>, precision: Precision = Float64Array): Value {
  if (data.length !== count(shape)) throw new RangeError(`${data.length} numbers for the shape [${shape}]`);
  const { length } = data;
  return { shape, data: precision.from(data), grad: new precision(length), terms: new Float64Array(length) };
}

/** Where windows of `size` lie on a line of `extent` under "same" padding, as TensorFlow's documentation defines it. */
function windows(extent: number, size: number, stride: number) {
  const outputs = Math.ceil(extent / stride);
  const padding = Math.max((outputs - 1) * stride + size - extent, 0);
  return { outputs, before: Math.floor(padding / 2) };
}

export class Tape {
  readonly #steps: (() => void)[] = [];
  readonly #precision: Precision;
  readonly #sums: Precision;

  /** @param sums of the two sums that batch norm's gradient subtracts */
  constructor(precision: Precision = Float64Array, sums: Precision = precision) {
    this.#precision = precision;
    this.#sums = sums;
  }

  backward(): void {
    for (const step of this.#steps.reverse()) step();
  }

  /** x [n, h, w, c], kernel [kh, kw, c, o], "same" padding. */
  conv(x: Value, kernel: Value, stride: number): Value {
    const [n, , , c] = x.shape as [number, number, number, number];
    const [kh, kw, , o] = kernel.shape as [number, number, number, number];
    const { y, visit } = this.#slide(x, [kh, kw], stride, o);
    const each = (multiply: (px: number, pk: number, py: number) => void) =>
      visit(n, (from, ky, kx, to) => {
        for (let i = 0; i < c; i++) {
          for (let j = 0; j < o; j++) multiply(from * c + i, ((ky * kw + kx) * c + i) * o + j, to * o + j);
        }
      });
    each((px, pk, py) => {
      y.data[py]! += x.data[px]! * kernel.data[pk]!;
    });
    this.#steps.push(() =>
      each((px, pk, py) => {
        x.grad[px]! += y.grad[py]! * kernel.data[pk]!;
        kernel.grad[pk]! += y.grad[py]! * x.data[px]!;
        kernel.terms[pk]! += Math.abs(y.grad[py]! * x.data[px]!);
      }),
    );
    return y;
  }

  maxPool(x: Value, size: number, stride: number): Value {
    const [n, , , c] = x.shape as [number, number, number, number];
    const { y, visit } = this.#slide(x, [size, size], stride, c);
    const winner = new Int32Array(y.data.length).fill(-1);
    visit(n, (from, _ky, _kx, to) => {
      for (let i = 0; i < c; i++) {
        const [px, py] = [from * c + i, to * c + i];
        if (winner[py] === -1 || x.data[px]! > x.data[winner[py]!]!) winner[py] = px;
      }
    });
    winner.forEach((px, py) => {
      y.data[py] = x.data[px]!;
    });
    this.#steps.push(() =>
      winner.forEach((px, py) => {
        x.grad[px]! += y.grad[py]!;
      }),
    );
    return y;
  }

  /** Averages over what lies inside the image. */
  averagePool(x: Value, size: number, stride: number): Value {
    const [n, , , c] = x.shape as [number, number, number, number];
    const { y, visit } = this.#slide(x, [size, size], stride, c);
    const members = new Float64Array(y.data.length);
    const each = (pair: (px: number, py: number) => void) =>
      visit(n, (from, _ky, _kx, to) => {
        for (let i = 0; i < c; i++) pair(from * c + i, to * c + i);
      });
    each((_, py) => {
      members[py]! += 1;
    });
    each((px, py) => {
      y.data[py]! += x.data[px]! / members[py]!;
    });
    this.#steps.push(() =>
      each((px, py) => {
        x.grad[px]! += y.grad[py]! / members[py]!;
      }),
    );
    return y;
  }

  relu(x: Value): Value {
    const y = this.#value(
      x.shape,
      x.data.map((v) => Math.max(v, 0)),
    );
    this.#steps.push(() =>
      y.grad.forEach((g, i) => {
        x.grad[i]! += x.data[i]! > 0 ? g : 0;
      }),
    );
    return y;
  }

  add(a: Value, b: Value): Value {
    const y = this.#value(
      a.shape,
      a.data.map((v, i) => v + b.data[i]!),
    );
    this.#steps.push(() =>
      y.grad.forEach((g, i) => {
        a.grad[i]! += g;
        b.grad[i]! += g;
      }),
    );
    return y;
  }

  /** y = x * mask, the mask without gradient. */
  mask(x: Value, mask: ArrayLike<number>): Value {
    const y = this.#value(
      x.shape,
      x.data.map((v, i) => v * mask[i]!),
    );
    this.#steps.push(() =>
      y.grad.forEach((g, i) => {
        x.grad[i]! += g * mask[i]!;
      }),
    );
    return y;
  }

  /**
   * Batch norm of a training batch (Ioffe and Szegedy 2015), with the batch's mean and unbiased variance. The gradient
   * follows the chain rule through mean and variance term by term.
   */
  batchNorm(x: Value, gamma: Value, beta: Value, epsilon: number) {
    const c = x.shape.at(-1)!;
    const m = x.data.length / c;
    const mean = new this.#precision(c);
    const variance = new this.#precision(c);
    x.data.forEach((v, i) => {
      mean[i % c]! += v / m;
    });
    x.data.forEach((v, i) => {
      variance[i % c]! += (v - mean[i % c]!) ** 2 / m;
    });
    const hat = x.data.map((v, i) => (v - mean[i % c]!) / Math.sqrt(variance[i % c]! + epsilon));
    const y = this.#value(
      x.shape,
      hat.map((v, i) => v * gamma.data[i % c]! + beta.data[i % c]!),
    );
    this.#steps.push(() => {
      const dMean = new this.#sums(c);
      const dVariance = new this.#sums(c);
      y.grad.forEach((g, i) => {
        const k = i % c;
        gamma.grad[k]! += g * hat[i]!;
        gamma.terms[k]! += Math.abs(g * hat[i]!);
        beta.grad[k]! += g;
        beta.terms[k]! += Math.abs(g);
        const dHat = g * gamma.data[k]!;
        dVariance[k]! -= (dHat * (x.data[i]! - mean[k]!)) / 2 / (variance[k]! + epsilon) ** 1.5;
        dMean[k]! -= dHat / Math.sqrt(variance[k]! + epsilon);
      });
      // The variance's own dependence on the mean sums to zero.
      y.grad.forEach((g, i) => {
        const k = i % c;
        const direct = (g * gamma.data[k]!) / Math.sqrt(variance[k]! + epsilon);
        x.grad[i]! += direct + (dVariance[k]! * 2 * (x.data[i]! - mean[k]!)) / m + dMean[k]! / m;
      });
    });
    return { y, mean, unbiased: variance.map((v) => (v * m) / (m - 1)) };
  }

  /** Batch norm of inference: a fixed line for each channel. No gradient is defined for it. */
  normalise(x: Value, gamma: Value, beta: Value, mean: Value, variance: Value, epsilon: number): Value {
    const c = x.shape.at(-1)!;
    const line = (v: number, k: number) =>
      ((v - mean.data[k]!) / Math.sqrt(variance.data[k]! + epsilon)) * gamma.data[k]! + beta.data[k]!;
    return this.#value(
      x.shape,
      x.data.map((v, i) => line(v, i % c)),
    );
  }

  /** [n, h, w, c] to [n, c]. */
  globalAverage(x: Value): Value {
    const [n, h, w, c] = x.shape as [number, number, number, number];
    const y = this.#zeros([n, c]);
    const place = (i: number) => Math.floor(i / (h * w * c)) * c + (i % c);
    x.data.forEach((v, i) => {
      y.data[place(i)]! += v / (h * w);
    });
    this.#steps.push(() =>
      x.grad.forEach((_, i) => {
        x.grad[i]! += y.grad[place(i)]! / (h * w);
      }),
    );
    return y;
  }

  /** x [n, i] times kernel [i, o] plus bias [o]. */
  dense(x: Value, kernel: Value, bias: Value): Value {
    const [n, inputs] = x.shape as [number, number];
    const outputs = kernel.shape[1]!;
    const y = this.#zeros([n, outputs]);
    const each = (use: (px: number, pk: number, py: number) => void) => {
      for (let r = 0; r < n; r++)
        for (let i = 0; i < inputs; i++)
          for (let j = 0; j < outputs; j++) use(r * inputs + i, i * outputs + j, r * outputs + j);
    };
    y.data.forEach((_, i) => {
      y.data[i] = bias.data[i % outputs]!;
    });
    each((px, pk, py) => {
      y.data[py]! += x.data[px]! * kernel.data[pk]!;
    });
    this.#steps.push(() => {
      y.grad.forEach((g, i) => {
        bias.grad[i % outputs]! += g;
        bias.terms[i % outputs]! += Math.abs(g);
      });
      each((px, pk, py) => {
        x.grad[px]! += y.grad[py]! * kernel.data[pk]!;
        kernel.grad[pk]! += y.grad[py]! * x.data[px]!;
        kernel.terms[pk]! += Math.abs(y.grad[py]! * x.data[px]!);
      });
    });
    return y;
  }

  /** Cross entropy with smoothed labels (Szegedy et al. 2016), summed over the samples. Starts the backward pass. */
  crossEntropy(logits: Value, labels: readonly number[], smoothing: number): number {
    const classes = logits.shape[1]!;
    let loss = 0;
    labels.forEach((label, r) => {
      const row = logits.data.subarray(r * classes, (r + 1) * classes);
      const most = Math.max(...row);
      const total = Array.from(row).reduce((sum, v) => sum + Math.exp(v - most), 0);
      row.forEach((v, k) => {
        const target = (k === label ? 1 - smoothing : 0) + smoothing / classes;
        loss -= target * (v - most - Math.log(total));
        logits.grad[r * classes + k]! += Math.exp(v - most) / total - target;
      });
    });
    return loss;
  }

  #value(shape: readonly number[], data: ArrayLike<number>): Value {
    return value(shape, data, this.#precision);
  }

  #zeros(shape: readonly number[]): Value {
    return this.#value(shape, new Float64Array(count(shape)));
  }

  /** Output of a sliding window, and a visit of all its pairs of positions: flat [n, h, w] indices of x and y. */
  #slide(x: Value, [kh, kw]: readonly [number, number], stride: number, channels: number) {
    const [n, h, w] = x.shape as [number, number, number, number];
    const rows = windows(h, kh, stride);
    const columns = windows(w, kw, stride);
    const y = this.#zeros([n, rows.outputs, columns.outputs, channels]);
    const visit = (images: number, pair: (from: number, ky: number, kx: number, to: number) => void) => {
      for (let r = 0; r < images; r++)
        for (let i = 0; i < rows.outputs; i++)
          for (let j = 0; j < columns.outputs; j++)
            for (let ky = 0; ky < kh; ky++)
              for (let kx = 0; kx < kw; kx++) {
                const [a, b] = [i * stride + ky - rows.before, j * stride + kx - columns.before];
                if (a < 0 || a >= h || b < 0 || b >= w) continue;
                pair((r * h + a) * w + b, ky, kx, (r * rows.outputs + i) * columns.outputs + j);
              }
    };
    return { y, visit };
  }
}
