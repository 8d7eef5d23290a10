import { createHash } from "node:crypto";
import type { Incarnation } from "../protocol/view.ts";

/** Version of what processes say to each other; those of different ones do not work together. */
export const PROTOCOL = 1;

/**
 * What a joiner signs with its new key: a certificate is given only to whoever holds that key, for this run and this life
 * of the worker.
 * @param authority hash of the run's authority, in hexadecimal
 * @param publicKey SubjectPublicKeyInfo in DER
 */
export const joinStatement = (authority: string, incarnation: string, publicKey: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from(`lockstep join ${authority} ${incarnation} `), publicKey]);

/**
 * What a worker is called by whoever joins with this key. A name that follows from a key cannot be asked for by another
 * worker, also not by one that knows the token and all names of the run.
 * @param publicKey SubjectPublicKeyInfo in DER
 */
export const incarnationOf = (publicKey: Uint8Array): Incarnation =>
  createHash("sha256").update(publicKey).digest("hex").slice(0, 16) as Incarnation;
