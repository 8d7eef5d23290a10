/** A kind of link between hosts: a token bucket (tc-tbf(8)) on what each host sends, and a relay for the delay. */
export interface Link {
  readonly name: string;
  /** What each host sends at most, bits a second. */
  readonly bitsPerSecond: number;
  /** One way. */
  readonly delayMillis: number;
  /** Steps that are measured. */
  readonly steps: number;
}

export const LINKS: readonly Link[] = [
  {
    name: "10 GbE",
    ...{ bitsPerSecond: 10e9, delayMillis: 0, steps: 20 },
  },
  {
    name: "1 GbE",
    ...{ bitsPerSecond: 1e9, delayMillis: 0, steps: 8 },
  },
  {
    name: "100 Mbit/s, 20 ms there and back",
    ...{ bitsPerSecond: 100e6, delayMillis: 10, steps: 3 },
  },
];

/** What the links themselves allow for an exchange: its bytes at full speed, and its two phases, one after the other. */
export const linkLimitMillis = ({ bitsPerSecond, delayMillis }: Link, bytesSent: number): number =>
  (bytesSent * 8000) / bitsPerSecond + 2 * delayMillis;

/** Bytes of gradients that a member of N sends where each holds one node: reduce-scatter and all-gather. */
export const exchangedBytes = (members: number, bytes: number): number => (2 * (members - 1) * bytes) / members;
