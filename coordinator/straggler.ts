/** What the score needs of a worker. */
export interface Pace {
  readonly name: string;
  /** Median time of one micro-batch in milliseconds; 0 before the first. */
  readonly shardMillis: number;
}

/**
 * How slow each worker is beside the others: its median time of a micro-batch over the median of the other workers' medians.
 * 1 is as fast as they, 2 takes twice as long. Workers alone, and before their first micro-batch, have no score.
 */
export function stragglerRatios(workers: readonly Pace[]): (readonly [name: string, ratio: number])[] {
  const measured = workers.filter(({ shardMillis }) => shardMillis > 0);
  if (measured.length < 2) return [];
  const sorted = measured.map(({ shardMillis }) => shardMillis).sort((a, b) => a - b);
  return measured.map(({ name, shardMillis }) => {
    const own = sorted.indexOf(shardMillis);
    return [name, shardMillis / medianWithout(sorted, own)] as const;
  });
}

/** Median of all but one of sorted numbers. */
function medianWithout(sorted: readonly number[], left: number): number {
  const at = (index: number) => sorted[index < left ? index : index + 1]!;
  const count = sorted.length - 1;
  const half = count >> 1;
  return count % 2 === 1 ? at(half) : (at(half - 1) + at(half)) / 2;
}
