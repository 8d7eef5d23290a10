import type { Incarnation, View } from "../../shared/protocol/view.ts";

/** V of benchmarks of the exchange: 2, 4 and 8 members hold one whole sub-tree each. */
export const SHARDS = 8;

export const incarnationOf = (index: number) => `${index}`.padStart(16, "0") as Incarnation;

/** The view of members that listen at these addresses, with the shards dealt evenly. */
export const viewOf = (addresses: readonly string[]): View => ({
  id: { term: 1, number: 1 },
  predecessor: null,
  kind: "train",
  members: addresses.map((address, i) => ({
    incarnation: incarnationOf(i),
    address,
    shards: {
      from: Math.floor((i * SHARDS) / addresses.length),
      to: Math.floor(((i + 1) * SHARDS) / addresses.length),
    },
    entry: "level",
  })),
});
