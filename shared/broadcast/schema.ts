import { z } from "zod";

/**
 * What is broadcast on NATS, version 1. Subjects: `lockstep.v1.<run id>.step`, `lockstep.v1.<run id>.event`. Every member
 * of a view publishes each final step, so that a lost worker loses no news; consumers drop repeats by (view, step).
 */
export const stepMessageSchema = z.object({
  run: z.string(),
  /** View that committed the step, "term.number". */
  view: z.string(),
  step: z.number().int(),
  epoch: z.number().int(),
  /** Who publishes this copy. */
  from: z.string(),
  /** Mean loss, share of correct predictions, and images of the step. */
  loss: z.number().nullable(),
  accuracy: z.number(),
  images: z.number().int(),
  learningRate: z.number(),
  gradientNorm: z.number().nullable(),
  applied: z.boolean(),
  lineage: z.string(),
  /** Shards by member, "incarnation": [shards]. */
  shards: z.record(z.string(), z.array(z.number().int())),
});

export const eventMessageSchema = z.object({ run: z.string(), time: z.string(), type: z.string() }).loose();

export type StepMessage = z.infer<typeof stepMessageSchema>;
export type EventMessage = z.infer<typeof eventMessageSchema>;

export const subjectOf = (run: string, kind: "step" | "event"): string => `lockstep.v1.${run}.${kind}`;
