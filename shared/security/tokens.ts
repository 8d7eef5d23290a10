import { createHash, timingSafeEqual } from "node:crypto";
import { z } from "zod";
import { LockstepError } from "../errors.ts";

/** What is kept of a secret that lets workers in. The secret itself is not kept. */
export const tokenRecordSchema = z.strictObject({
  id: z.string().regex(/^[0-9a-f]{8}$/),
  /** SHA-256 of the secret; with 128 random bits nothing slower is needed. */
  secretSha256: z.string().regex(/^[0-9a-f]{64}$/),
  /** Milliseconds since the epoch; null: it stays until it is revoked. */
  expires: z.number().nullable(),
  /** How many more workers may join by it; null: any number. */
  uses: z.number().int().min(0).nullable(),
  revoked: z.boolean(),
  /** Whom it is for, in a person's words. */
  note: z.string().max(200),
});

export type TokenRecord = z.infer<typeof tokenRecordSchema>;

export type TokenState = "valid" | "expired" | "used" | "revoked";

export const secretHash = (secret: string): string => createHash("sha256").update(secret).digest("hex");

export function tokenState({ expires, uses, revoked }: TokenRecord, now: number): TokenState {
  if (revoked) return "revoked";
  if (expires !== null && now >= expires) return "expired";
  return uses === 0 ? "used" : "valid";
}

const REFUSALS: Readonly<Record<Exclude<TokenState, "valid">, readonly [code: `LS_${string}`, message: string]>> = {
  revoked: ["LS_TOKEN_REVOKED", "This token was revoked."],
  expired: ["LS_TOKEN_EXPIRED", "This token has expired."],
  used: ["LS_TOKEN_USED", "This token has let in as many workers as it was made for."],
};

/**
 * The token that a joiner shows, with one use less. Whoever does not know the secret learns nothing about the token.
 * @throws LockstepError LS_TOKEN_UNKNOWN, LS_TOKEN_REVOKED, LS_TOKEN_EXPIRED, LS_TOKEN_USED
 */
export function useToken(records: readonly TokenRecord[], id: string, secret: string, now: number): TokenRecord {
  const record = records.find((one) => one.id === id);
  const shown = Buffer.from(secretHash(secret), "hex");
  const known = Buffer.from(record?.secretSha256 ?? "0".repeat(64), "hex");
  const hint = "Ask for a new line: npx lockstep token create RUN.";
  if (!timingSafeEqual(shown, known) || record === undefined)
    throw new LockstepError("LS_TOKEN_UNKNOWN", "This run knows no such token.", { hint, exitCode: 3 });
  const state = tokenState(record, now);
  if (state !== "valid") throw new LockstepError(...REFUSALS[state], { hint, exitCode: 3 });
  return { ...record, uses: record.uses === null ? null : record.uses - 1 };
}

const UNITS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** "24h", "30m", "7d" in milliseconds; null for "never". @throws LockstepError LS_USAGE */
export function parseLifetime(text: string): number | null {
  if (text === "never") return null;
  const parts = /^(\d{1,6})([smhd])$/.exec(text);
  const millis = parts === null ? 0 : Number(parts[1]) * UNITS[parts[2]!]!;
  if (millis > 0) return millis;
  throw new LockstepError("LS_USAGE", `A lifetime is written 30m, 24h, 7d or never; this is "${text}".`, {
    exitCode: 2,
  });
}
