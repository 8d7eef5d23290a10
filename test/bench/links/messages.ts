import type { View } from "../../../shared/protocol/view.ts";
import type { Credentials } from "../../../shared/security/trust.ts";
import type { BenchMemberOptions, Exchanged } from "../../../worker/bench/bench-member.ts";

/** What the benchmark says to a member on one of its hosts. Each request has one answer, but for the last. */
export type LinksRequest =
  | ({ readonly kind: "setup" } & Omit<BenchMemberOptions, "trust"> & {
        /** Where it listens. */
        readonly host: string;
        /** null: plain text. */
        readonly credentials: Credentials | null;
      })
  | { readonly kind: "view"; readonly view: View; readonly raw: readonly RawAddress[] }
  /** Steps of sleeping alone: the ceiling. */
  | { readonly kind: "sleep"; readonly steps: number; readonly computeMillis: number }
  | { readonly kind: "train"; readonly from: number; readonly steps: number; readonly computeMillis: number }
  /** So many bytes to every peer, over bare TCP. */
  | { readonly kind: "raw"; readonly bytesToPeer: number }
  | { readonly kind: "stop" };

export type LinksReply =
  | { readonly kind: "listening"; readonly address: string; readonly raw: RawAddress }
  | { readonly kind: "connected" }
  | { readonly kind: "slept"; readonly stepMillis: readonly number[] }
  | { readonly kind: "trained"; readonly steps: readonly TrainedStep[] }
  | { readonly kind: "sent"; readonly millis: number };

export interface RawAddress {
  readonly host: string;
  readonly port: number;
}

/** One step at one member; its exchange is what no sleeping hid. */
export interface TrainedStep extends Exchanged {
  /** From the end of the step before to the end of this one. */
  readonly stepMillis: number;
}
