import { z } from "zod";
import { subjectOf } from "./subjects.ts";

export { subjectOf };

/**
 * What is broadcast on NATS, version 1: JSON objects in UTF-8. Fields may be added within a version, never changed. NATS is
 * at most once: a message may be missing. Steps and epochs come from every member of a view and from the coordinator, so that
 * whoever is lost loses no news; consumers drop repeats by (view, step).
 */
const whole = z.number().int().min(0);
const view = z.string().describe("View, term.number");

export const stepMessageSchema = z
  .object({
    run: z.string(),
    view: view.describe("View that committed the step, term.number"),
    step: whole.describe("Counted from 0"),
    epoch: whole.describe("Counted from 0"),
    from: z.string().describe("Incarnation of the worker that publishes this copy, or 'coordinator'"),
    loss: z.number().nullable().describe("Mean over the step's images; null where it is not finite"),
    accuracy: z.number().min(0).max(1).describe("Share of correct training predictions, augmentation and all"),
    images: whole,
    learningRate: z.number(),
    gradientNorm: z.number().nullable().describe("L2 norm of the mean gradient; null where it is not finite"),
    applied: z.boolean().describe("False where loss or norm was not finite and the update was the identity"),
    lineage: z.string().describe("Hash chain after the step, hex SHA-256"),
    shards: z.record(z.string(), z.array(whole)).describe("Shards by incarnation of the worker that computed them"),
  })
  .describe("lockstep.v1.<run id>.step: one final step");

export const epochMessageSchema = z
  .object({
    run: z.string(),
    view: view.describe("View that committed the epoch's last step"),
    step: whole.describe("The epoch's last step"),
    epoch: whole.describe("Counted from 0"),
    from: z.string(),
    loss: z.number().nullable().describe("Mean over the epoch's images; null where a step was not finite"),
    accuracy: z.number().min(0).max(1),
    images: whole,
  })
  .describe("lockstep.v1.<run id>.epoch: one finished epoch, from whoever has seen all of its steps become final");

export const eventMessageSchema = z
  .looseObject({
    run: z.string(),
    time: z.string().describe("ISO 8601, UTC"),
    type: z.string().describe("worker, view, heal, mismatch, checkpoint, validation, fallback, waiting or phase"),
  })
  .describe("lockstep.v1.<run id>.event: a line of events.ndjson, with the run's id");

export const workerMessageSchema = z
  .object({
    run: z.string(),
    time: z.string().describe("ISO 8601, UTC"),
    name: z.string(),
    incarnation: z.string().describe("One life of the worker"),
    view: view.nullable().describe("View that it is in, term.number"),
    step: whole.describe("Steps in its state"),
    phase: z.string().describe("loading, waiting, compute, exchange, update, idle or evaluate"),
    level: z.boolean().describe("Its state is the view's"),
    shardSeconds: z.number().min(0).describe("Median time of one micro-batch; 0 before the first"),
    images: whole.describe("Images computed since its start"),
    residentBytes: whole,
  })
  .describe("lockstep.v1.<run id>.worker.<name>: how a worker is doing");

export type StepMessage = z.infer<typeof stepMessageSchema>;
export type EpochMessage = z.infer<typeof epochMessageSchema>;
export type EventMessage = z.infer<typeof eventMessageSchema>;
export type WorkerMessage = z.infer<typeof workerMessageSchema>;

/** JSON Schema (draft 2020-12) of each kind of message, for readers in other languages. */
export const broadcastJsonSchemas = (): Readonly<Record<"step" | "epoch" | "event" | "worker", object>> => ({
  step: z.toJSONSchema(stepMessageSchema),
  epoch: z.toJSONSchema(epochMessageSchema),
  event: z.toJSONSchema(eventMessageSchema),
  worker: z.toJSONSchema(workerMessageSchema),
});
