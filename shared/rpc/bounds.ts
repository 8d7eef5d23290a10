/** Bounds on what one control message may hold. */

/** Characters of a free text: a reason, an error's sentence, a label. Longer ones are cut by the sender. */
export const MOST_TEXT = 16_384;
export const MOST_LABELS = 64;
export const MOST_MEMBERS = 4096;
export const MOST_SHARDS = 65_536;
/** Ledger entries that a worker keeps until the coordinator has recorded them; it stops at its own, lower bound. */
export const MOST_ENTRIES = 65_536;
