import { configSchema } from "../config/schema.ts";
import { LockstepError } from "../errors.ts";
import type { CoordinatorMessage, WorkerMessage } from "../protocol/messages.ts";
import type { LedgerEntry } from "../protocol/trailer.ts";

/**
 * Between the wire form of proto/lockstep.proto and the parsed messages. Field names agree, so that the work is: the
 * oneof's name becomes `kind`, absent strings and lists become null where the parsed form says so, and the config is
 * JSON. Protobuf has checked the types; what must hold beyond them is checked here.
 */
interface Envelope {
  readonly kind?: string;
  readonly [field: string]: unknown;
}

const INCARNATION = /^[0-9a-f]{16}$/;

const malformed = (what: string, cause?: unknown) => new LockstepError("LS_MALFORMED", `A message is malformed: ${what}.`, { cause });

function unwrap(envelope: Envelope): { kind: string } & Record<string, unknown> {
  const { kind } = envelope;
  const body = kind === undefined ? undefined : envelope[kind];
  if (kind === undefined || typeof body !== "object" || body === null) throw malformed("it has no content");
  return { ...(body as Record<string, unknown>), kind };
}

const wrap = ({ kind, ...body }: { readonly kind: string }): Envelope => ({ kind, [kind]: body });

/** @throws LockstepError LS_MALFORMED */
export function parseWorkerMessage(envelope: Envelope): WorkerMessage {
  const message = unwrap(envelope);
  if (message.kind === "hello" && !INCARNATION.test(String(message.incarnation))) throw malformed("hello has no incarnation");
  if (message.kind === "mismatch") message.corruptFrom = message.corruptFrom === "" ? null : message.corruptFrom;
  for (const needed of NEEDED[message.kind] ?? []) {
    if (message[needed] === null || message[needed] === undefined) throw malformed(`${message.kind} lacks ${needed}`);
  }
  return message as unknown as WorkerMessage;
}

const NEEDED: Readonly<Record<string, readonly string[]>> = {
  ready: ["standing", "facts"],
  heartbeat: ["progress"],
  answer: ["id", "standing"],
  refuse: ["id", "promised"],
  switched: ["id"],
  mismatch: ["view"],
  lost: ["view"],
  idle: ["view", "standing"],
  restored: ["standing"],
  snapshot: ["tip"],
  prepare: ["id"],
  install: ["view", "base"],
  plan: ["view"],
  restore: ["tip"],
};

export function wireWorkerMessage(message: WorkerMessage): Envelope {
  return wrap(message.kind === "mismatch" ? ({ ...message, corruptFrom: message.corruptFrom ?? "" } as never) : message);
}

/** @throws LockstepError LS_MALFORMED */
export function parseCoordinatorMessage(envelope: Envelope): CoordinatorMessage {
  const message = unwrap(envelope);
  // The coordinator's "snapshot" and "heartbeat" have other fields than the worker's.
  const needed = message.kind === "snapshot" || message.kind === "heartbeat" ? [] : (NEEDED[message.kind] ?? []);
  for (const field of needed) {
    if (message[field] === null || message[field] === undefined) throw malformed(`${message.kind} lacks ${field}`);
  }
  if (message.kind === "welcome") {
    const fingerprint = message.fingerprint as string[];
    message.fingerprint = fingerprint.length === 0 ? null : fingerprint;
    message.config = parseConfig(String(message.config));
  }
  return message as unknown as CoordinatorMessage;
}

function parseConfig(text: string) {
  try {
    return configSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw malformed("its config does not fit this version's schema", cause);
  }
}

export function wireCoordinatorMessage(message: CoordinatorMessage): Envelope {
  if (message.kind !== "welcome") return wrap(message);
  return wrap({ ...message, config: JSON.stringify(message.config), fingerprint: message.fingerprint ?? [] } as never);
}

export type WireEntries = { readonly lineage: string; readonly entries: readonly LedgerEntry[] };
