/**
 * The learning-rate table of a run: linear warm-up, then half a cosine down to zero (Loshchilov and Hutter 2017). It is
 * computed once, written to config.json and only read afterwards. It uses + - * / alone, which IEEE 754 rounds alike
 * everywhere: Math.cos may differ between engines.
 */
export interface Schedule {
  readonly peakRate: number;
  /** Part of all steps that the warm-up takes, 0 to 1. */
  readonly warmup: number;
}

/**
 * Rates of `steps` steps, each a float32 number. The warm-up's W steps rise evenly below the peak, step W has the peak,
 * and the cosine would reach zero at step `steps`.
 */
export function learningRates(steps: number, { peakRate, warmup }: Schedule): number[] {
  const rising = Math.min(steps - 1, Math.round(warmup * steps));
  return Array.from({ length: steps }, (_, step) => {
    const part = step < rising ? (step + 1) / (rising + 1) : halfCosine((step - rising) / (steps - rising));
    return Math.fround(peakRate * part);
  });
}

/** The schedule that a table follows: its largest rate, and where that stands. */
export function scheduleOf(table: readonly number[]): Schedule {
  let at = 0;
  table.forEach((rate, step) => {
    if (rate > table[at]!) at = step;
  });
  return { peakRate: table[at] ?? 0, warmup: table.length === 0 ? 0 : at / table.length };
}

/** (1 + cos(pi x)) / 2 for x in 0..1. */
const halfCosine = (x: number) => (x <= 0.5 ? 1 + cosine(x) : 1 - cosine(1 - x)) / 2;

/** cos(pi x) for x in 0..0.5, by its Taylor series: the first term left out is below 1e-17. */
function cosine(x: number): number {
  const square = Math.PI * x * (Math.PI * x);
  let sum = 1;
  for (let n = 22; n >= 2; n -= 2) sum = 1 - (square / ((n - 1) * n)) * sum;
  return sum;
}
