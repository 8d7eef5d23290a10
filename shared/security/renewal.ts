import { X509Certificate } from "node:crypto";

/** From when to when a certificate counts, in milliseconds since the epoch. */
export interface Validity {
  readonly from: number;
  readonly until: number;
}

/** @param pem the certificate, or a chain that begins with it */
export function validityOf(pem: string): Validity {
  const { validFrom, validTo } = new X509Certificate(pem);
  return { from: Date.parse(validFrom), until: Date.parse(validTo) };
}

/** Share of the lifetime after which a new certificate is asked for: the rest is for trying again. */
const USED = 2 / 3;
/** A first try that fails is repeated after this share of the lifetime. */
const RETRY = 1 / 30;
const SHORTEST = 1000;
/** setTimeout takes no more than 2^31 - 1. */
const LONGEST = 2 ** 31 - 1;

/**
 * How long to wait before a certificate is to be renewed, in milliseconds.
 * @param issued when it was issued: `from` lies before, for clocks that differ
 */
export function untilRenewal(issued: number, until: number, now: number): number {
  return bounded(issued + USED * (until - issued) - now);
}

/** How long to wait before the next try. */
export const untilRetry = (issued: number, until: number): number => bounded(RETRY * (until - issued));

const bounded = (millis: number): number => Math.min(LONGEST, Math.max(SHORTEST, Math.round(millis)));
