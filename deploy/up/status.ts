import { z } from "zod";

/**
 * The coordinator's account of a run, as GetStatus answers it, parsed at this border: a coordinator of another version may
 * say more or less.
 */
const text = z.string().catch("");
const number = z.number().catch(0);
const maybe = z.number().nullable().catch(null);

export const workerRowSchema = z.object({
  name: text,
  incarnation: text,
  pid: number,
  address: text,
  httpAddress: text,
  /** computing, joining, standby, loading, unreached or away. */
  state: text,
  /** Why it is not let in. */
  why: text,
  /** "0-3", or "" without shards. */
  shards: text,
  phase: text,
  step: number,
  /** Median milliseconds of one shard's micro-batch. */
  shardMillis: number,
  images: number,
  residentBytes: number,
});

export const runStatusSchema = z.object({
  run: z.string(),
  term: number,
  phase: text,
  view: z.string().nullable().catch(null),
  /** Final steps, and steps of the whole run. */
  step: z.number(),
  steps: z.number(),
  stepsPerEpoch: z.number(),
  loss: maybe,
  accuracy: maybe,
  imagesPerSecond: maybe,
  secondsPerStep: maybe,
  evaluation: z.object({ done: z.number(), batches: z.number() }).nullable().catch(null),
  /** The newest validation on held-out images. */
  validation: z.object({ step: z.number(), accuracy: z.number() }).nullable().catch(null),
  checkpoint: maybe,
  /** For whom or what the run waits; null while it goes on. */
  waiting: z.string().nullable().catch(null),
  workers: z.array(workerRowSchema).catch([]),
  messages: z.array(z.object({ time: z.string(), text: z.string() })).catch([]),
});

export type RunStatus = z.infer<typeof runStatusSchema>;
export type WorkerStatus = z.infer<typeof workerRowSchema>;

/** Seconds until the last step is final; null while the pace is not known. */
export function secondsLeft({
  step,
  steps,
  secondsPerStep,
}: Pick<RunStatus, "step" | "steps" | "secondsPerStep">): number | null {
  return secondsPerStep === null ? null : Math.max(0, steps - step) * secondsPerStep;
}
