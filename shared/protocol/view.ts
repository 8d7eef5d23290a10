import type { ShardRange } from "../plan/tree.ts";

declare const brand: unique symbol;
/** One life of one worker process: 16 hex digits, drawn at its start. */
export type Incarnation = string & { readonly [brand]: "Incarnation" };

/** (term, number), ordered by term, then number. */
export interface ViewId {
  readonly term: number;
  readonly number: number;
}

/** How a member enters a view. */
export type Entry =
  /** Its state is the base's: it computes at once. */
  | "level"
  /** It is one step behind: it pulls the base's state first, then computes its shards in the same step. */
  | "lagging"
  /** It pulls the state while the others compute one step; its shards are empty. */
  | "joining";

export interface Member {
  readonly incarnation: Incarnation;
  /** Where its exchange listens, host:port. */
  readonly address: string;
  /** The contiguous shards that it computes, possibly empty. */
  readonly shards: ShardRange;
  readonly entry: Entry;
}

/** One membership. Two views of one id never differ. */
export interface View {
  readonly id: ViewId;
  /** The view inside which a planned view was announced; null for an installed one. */
  readonly predecessor: ViewId | null;
  /** `stop`: a view without steps, in which workers wait to be released. */
  readonly kind: "train" | "stop";
  /** In the order of their shards; those without shards last. */
  readonly members: readonly Member[];
}

/** The end of a history: `step` steps were applied, and this is what they made. */
export interface Tip {
  readonly step: number;
  /** Hex SHA-256 of the chain. */
  readonly lineage: string;
  /** Hex of the 64-bit hash over weights, slots, statistics and EMA. */
  readonly stateHash: string;
}

export const compareViews = (a: ViewId, b: ViewId): number => a.term - b.term || a.number - b.number;
export const sameView = (a: ViewId | null, b: ViewId | null): boolean =>
  a === b || (a !== null && b !== null && compareViews(a, b) === 0);
export const viewName = (id: ViewId): string => `${id.term}.${id.number}`;

/** The members that reduce: those with shards, in view order. */
export const ownersOf = (view: View): readonly Member[] =>
  view.members.filter((member) => member.shards.to > member.shards.from);
