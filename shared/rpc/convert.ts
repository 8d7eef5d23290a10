import type { z } from "zod";
import { configSchema } from "../config/schema.ts";
import { LockstepError } from "../errors.ts";
import type { CoordinatorMessage, WorkerMessage } from "../protocol/messages.ts";
import { MOST_TEXT } from "./bounds.ts";
import type { Entries } from "./clients.ts";
import { coordinatorMessageSchema, entriesSchema, workerMessageSchema } from "./wire-schema.ts";

/**
 * Between the wire form of proto/lockstep.proto and the parsed messages. Field names agree, so that the work is: the
 * oneof's name becomes `kind`, absent strings and lists become null where the parsed form says so, the config is JSON,
 * and whatever comes in is checked.
 */
export interface Envelope {
  readonly kind?: string;
  readonly [field: string]: unknown;
}

const malformed = (what: string, cause?: unknown) =>
  new LockstepError("LS_MALFORMED", `A message is malformed: ${what}.`, {
    hint: "Do all processes run the same version of Lockstep?",
    cause,
  });

/** @throws LockstepError LS_MALFORMED */
export function parseWorkerMessage(envelope: Envelope): WorkerMessage {
  const message = unwrap(envelope);
  if (message.kind === "mismatch") message.corruptFrom = message.corruptFrom === "" ? null : message.corruptFrom;
  return check(workerMessageSchema, message) as unknown as WorkerMessage;
}

/** @throws LockstepError LS_MALFORMED */
export function parseCoordinatorMessage(envelope: Envelope): CoordinatorMessage {
  const message = unwrap(envelope);
  if (message.kind === "welcome") {
    const { fingerprint } = message;
    message.fingerprint = Array.isArray(fingerprint) && fingerprint.length === 0 ? null : fingerprint;
    message.config = parseConfig(String(message.config));
  }
  return check(coordinatorMessageSchema, message) as unknown as CoordinatorMessage;
}

export function wireWorkerMessage(message: WorkerMessage): Envelope {
  switch (message.kind) {
    case "mismatch":
      return wrap({ ...message, corruptFrom: message.corruptFrom ?? "" });
    case "failed":
      return wrap({ ...message, message: shortened(message.message) });
    case "dialled":
      return wrap({ ...message, failure: shortened(message.failure) });
    case "leaving":
      return wrap({ ...message, reason: shortened(message.reason) });
    default:
      return wrap(message);
  }
}

export function wireCoordinatorMessage(message: CoordinatorMessage): Envelope {
  switch (message.kind) {
    case "welcome":
      return wrap({ ...message, config: JSON.stringify(message.config), fingerprint: message.fingerprint ?? [] });
    case "rejected":
      return wrap({ ...message, message: shortened(message.message) });
    case "release":
      return wrap({ ...message, reason: shortened(message.reason) });
    default:
      return wrap(message);
  }
}

/** What travels with a pulled state. @throws LockstepError LS_MALFORMED */
export function parseEntries(reply: object): Entries {
  const { entries, lineage } = check(entriesSchema, { ...reply, kind: "entries" });
  return { lineage, entries: entries as unknown as Entries["entries"] };
}

const wrap = ({ kind, ...body }: { readonly kind: string; readonly [field: string]: unknown }): Envelope => ({
  kind,
  [kind]: body,
});

function unwrap(envelope: Envelope): { kind: string; [field: string]: unknown } {
  const { kind } = envelope;
  const body = typeof kind === "string" ? envelope[kind] : undefined;
  if (typeof kind !== "string" || typeof body !== "object" || body === null) throw malformed("it has no content");
  return { ...body, kind };
}

function check<Schema extends z.ZodType>(schema: Schema, message: { readonly kind: string }): z.infer<Schema> {
  const result = schema.safeParse(message);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw malformed(`${message.kind}: ${issue?.path.join(".") ?? ""}: ${issue?.message ?? "unknown"}`, result.error);
}

function parseConfig(text: string) {
  try {
    return configSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw malformed("its config does not fit this version's schema", cause);
  }
}

/** An error's sentence may quote a whole output; its beginning says what happened. */
const shortened = (text: string): string => (text.length <= MOST_TEXT ? text : `${text.slice(0, MOST_TEXT - 1)}…`);
