import { z } from "zod";
import type { Peer } from "./names.ts";

/** Certificates that count no more although they have not expired. */
export const revokedSchema = z.array(
  z.strictObject({
    /** A worker's incarnation, which all its certificates name, or the serial number of one certificate. */
    key: z.string().regex(/^[0-9a-fA-F]{1,64}$/),
    /** When the last of them ends by itself, in milliseconds since the epoch: nobody has to remember it from then on. */
    until: z.number(),
    name: z.string(),
  }),
);

export type Revoked = z.infer<typeof revokedSchema>[number];

/** Most that are remembered; beyond them the authority itself should be replaced. */
export const MOST_REVOKED = 4096;

/** The list with one more, without those that have ended, each once. */
export function revoke(list: readonly Revoked[], more: Revoked, now: number): Revoked[] {
  const others = list.filter(({ key, until }) => key !== more.key && until > now);
  return [...others, more].slice(-MOST_REVOKED);
}

/** @param keys of what was revoked */
export const isRevoked = (keys: ReadonlySet<string>, { serial, incarnation }: Peer): boolean =>
  keys.has(serial) || (incarnation !== null && keys.has(incarnation));
