import { medianOf } from "../pauses/history.ts";

/** What a process held after its garbage was collected. Bytes. */
export interface Sample {
  readonly step: number;
  readonly resident: number;
  /** JavaScript objects of the main thread, and what they hold outside of the heap: messages under way, mostly. */
  readonly main: number;
  readonly buffers: number;
  /** JavaScript objects of the thread that computes, where there is one. */
  readonly compute: number | null;
}

export interface Growth {
  readonly process: string;
  readonly what: "resident" | "main thread" | "its buffers" | "compute thread";
  /** Bytes at the end of the first half and of the second. */
  readonly half: number;
  readonly end: number;
  /** Bytes a step over the second half: the median of the slopes between all pairs of samples (Theil and Sen). */
  readonly slope: number;
}

/** The line through points that outliers do not move: the median of the slopes between all pairs (Theil–Sen). */
export function slopeOf(points: readonly (readonly [x: number, y: number])[]): number {
  const slopes = points.flatMap(([x, y], i) =>
    points.slice(i + 1).flatMap(([x2, y2]) => (x2 === x ? [] : [(y2 - y) / (x2 - x)])),
  );
  return slopes.length === 0 ? Number.NaN : medianOf(slopes);
}

/** How each kind of memory of a process grew over the second half of the steps. */
export function growthsOf(process: string, samples: readonly Sample[]): Growth[] {
  const last = samples.at(-1)?.step ?? 0;
  const second = samples.filter(({ step }) => step >= last / 2);
  const kinds = [
    ["resident", (sample: Sample) => sample.resident],
    ["main thread", (sample: Sample) => sample.main],
    ["its buffers", (sample: Sample) => sample.buffers],
    ["compute thread", (sample: Sample) => sample.compute],
  ] as const;
  return kinds.flatMap(([what, read]) => {
    const points = second.flatMap((sample) => {
      const value = read(sample);
      return value === null ? [] : [[sample.step, value] as const];
    });
    if (points.length < 2) return [];
    return [{ process, what, half: points[0]![1], end: points.at(-1)![1], slope: slopeOf(points) }];
  });
}
