import { readFileSync } from "node:fs";
import { z } from "zod";
import type { NatsAccess } from "../protocol/messages.ts";

const user = z.strictObject({ user: z.string().min(1), password: z.string().min(1) });

/** `security/nats.json` of a run: how to speak to its NATS server, for its owner. */
export const natsFileSchema = z.strictObject({
  url: z.string(),
  /** PEM of the authority that vouches for the server. */
  authority: z.string(),
  /** Who may publish, and who may listen. */
  worker: user,
  watch: user,
});

/** `security/watch.json`: all that somebody elsewhere needs to listen. */
const watchFileSchema = z.strictObject({ url: z.string(), authority: z.string(), ...user.shape });

/** How workers speak to the server; null where it asks for nothing. @throws what the file cannot be read for */
export function natsAccess(file: string, url: string): NatsAccess | null {
  if (!url.startsWith("tls://")) return null;
  const { authority, worker } = natsFileSchema.parse(JSON.parse(readFileSync(file, "utf8")));
  return { ...worker, authority };
}

/** Where to listen and with what. @throws what the file cannot be read for */
export function watchAccess(file: string): { readonly url: string; readonly access: NatsAccess } {
  const { url, ...access } = watchFileSchema.parse(JSON.parse(readFileSync(file, "utf8")));
  return { url, access };
}

/** What the NATS client wants to know of it. */
export const natsOptions = (access: NatsAccess | null) =>
  access === null ? {} : { user: access.user, pass: access.password, tls: { ca: access.authority } };
