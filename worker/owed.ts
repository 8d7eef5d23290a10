import type { Progress } from "../shared/protocol/messages.ts";
import type { Incarnation, View } from "../shared/protocol/view.ts";

/** What a trailer that has not come counts for; a real one is a few hundred bytes. */
const TRAILER_BYTES = 1;

/**
 * Whether a step lasts so long that the coordinator may soon judge by evidence. Before, heartbeats leave it out: with 256
 * members each would name 255 others four times a second.
 */
export const isEvidenceDue = (stepMillis: number, { stepBudgetFloor }: { readonly stepBudgetFloor: number }): boolean =>
  stepMillis >= stepBudgetFloor / 2;

/**
 * The evidence of one member about every other one in this step: bytes of partials and segments that are owed, and the
 * trailer. Members without shards owe nothing but their trailer, and nobody commits without it.
 */
export function owedByPeers(
  view: View,
  self: Incarnation,
  trailers: ReadonlyMap<Incarnation, unknown>,
  bytes: Progress["peers"],
): Progress["peers"] {
  const known = new Map(bytes.map((peer) => [peer.incarnation, peer]));
  return view.members
    .filter(({ incarnation }) => incarnation !== self)
    .map(({ incarnation }) => {
      const { owed, received } = known.get(incarnation) ?? { owed: 0, received: 0 };
      return { incarnation, owed: owed + (trailers.has(incarnation) ? 0 : TRAILER_BYTES), received };
    });
}
