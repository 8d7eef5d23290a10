import { z } from "zod";
import { LockstepError } from "../shared/errors.ts";
import { splitAddress } from "../shared/process/addresses.ts";
import type { ReachReply, ReachRequest } from "../shared/rpc/clients.ts";

const requestSchema = z.object({
  address: z
    .string()
    .max(300)
    .refine((text) => splitAddress(text) !== null),
  incarnation: z.string().regex(/^[0-9a-f]{16}$/),
});

/** Whoever asks makes this process open connections: so many at a time, whoever asks. */
const MOST_AT_ONCE = 4;

/** Tells a machine whether it is reached from here, before a worker of it is let in. */
export class DialBack {
  readonly #dial: (address: string, incarnation: string) => Promise<string | null>;
  readonly #nats: string;
  #open = 0;

  /**
   * @param dial null where the address was reached, else why not
   * @param nats address that workers need too; null without broadcasts
   */
  constructor(dial: (address: string, incarnation: string) => Promise<string | null>, nats: string | null) {
    this.#dial = dial;
    this.#nats = nats ?? "";
  }

  /** @throws LockstepError LS_MALFORMED, LS_BUSY */
  async ask(request: ReachRequest): Promise<ReachReply> {
    const { success, data } = requestSchema.safeParse(request);
    if (!success) throw new LockstepError("LS_MALFORMED", "This is no address to dial.");
    if (this.#open >= MOST_AT_ONCE) throw new LockstepError("LS_BUSY", "Others are being dialled; ask again.");
    this.#open += 1;
    try {
      return { failure: (await this.#dial(data.address, data.incarnation)) ?? "", nats: this.#nats };
    } finally {
      this.#open -= 1;
    }
  }
}
