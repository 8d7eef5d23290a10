import type { Ruler } from "../../coordinator/ruler.ts";

/** One life of a coordinator. */
export interface Reign {
  readonly term: number;
  readonly ruler: Ruler;
  hear(run: () => void): void;
  /** The state in a checkpoint, as a worker would fetch it; null where it is not sound. */
  imageOf(step: number): Promise<Buffer | null>;
}

/** One process. */
export interface Life {
  alive: boolean;
  frozen: boolean;
  readonly held: (() => void)[];
  reign: Reign | null;
}

export const newLife = (): Life => ({ alive: true, frozen: false, held: [], reign: null });
