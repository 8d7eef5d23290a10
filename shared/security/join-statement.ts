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
