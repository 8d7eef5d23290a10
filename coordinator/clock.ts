/** Milliseconds on a monotonic clock, and what is done again and again until it is stopped. */
export interface Clock {
  now(): number;
  every(millis: number, run: () => void): () => void;
}

export const SYSTEM_CLOCK: Clock = {
  now: () => performance.now(),
  every: (millis, run) => {
    const timer = setInterval(run, millis);
    return () => clearInterval(timer);
  },
};
