import { z } from "zod";
import { LockstepError } from "../shared/errors.ts";
import { splitAddress } from "../shared/process/addresses.ts";
import type { CoordinatorMessage, WorkerMessage } from "../shared/protocol/messages.ts";
import type { Incarnation } from "../shared/protocol/view.ts";
import type { ReachReply, ReachRequest } from "../shared/rpc/clients.ts";
import { RateBound } from "../shared/security/rate-bound.ts";

const requestSchema = z.object({
  address: z
    .string()
    .max(300)
    .refine((text) => splitAddress(text) !== null),
  incarnation: z.string().regex(/^[0-9a-f]{16}$/),
});

export interface DialBackParts {
  /** Dials from here: null where the address was reached, else why not. */
  dial(address: string, incarnation: string): Promise<string | null>;
  /** Who may be asked to dial too. */
  workers(): readonly { readonly incarnation: Incarnation; readonly name: string }[];
  send(to: Incarnation, message: CoordinatorMessage): void;
  /** URL that workers need too; null without broadcasts. */
  readonly nats: string | null;
  /** Milliseconds that workers may take. */
  readonly patience?: number;
}

/** Whoever asks makes other processes open connections: so many requests at a time, whoever asks, */
const MOST_AT_ONCE = 4;
/** and so many workers each: enough to find a firewall that one of them stands behind. */
const MOST_WORKERS = 16;
/** A person who mends a firewall asks a few times; a program that asks on and on makes others work. */
const OF_ONE = { burst: 6, perSecond: 0.1 };
const OF_ALL = { burst: 60, perSecond: 1 };
const PATIENCE = 5000;

/** What is still to come for one request. */
interface Asked {
  readonly incarnation: Incarnation;
  /** Names of workers that have not answered. */
  readonly open: Map<Incarnation, string>;
  readonly failures: string[];
  answers: number;
  end(): void;
}

/** Tells a machine whether it is reached from this one and from those of the workers, before a worker of it joins. */
export class DialBack {
  readonly #parts: DialBackParts;
  readonly #asked = new Set<Asked>();
  readonly #ofOne = new RateBound(OF_ONE);
  readonly #ofAll = new RateBound(OF_ALL);

  constructor(parts: DialBackParts) {
    this.#parts = parts;
  }

  /**
   * @param caller whose certificate came with the call; null where that names nobody. Admission waits for answers about
   * workers that join: nobody has them given about another one
   * @throws LockstepError LS_MALFORMED, LS_NOT_ALLOWED, LS_BUSY
   */
  async ask(request: ReachRequest, caller: Incarnation | null, now = performance.now()): Promise<ReachReply> {
    const { success, data } = requestSchema.safeParse(request);
    if (!success) throw new LockstepError("LS_MALFORMED", "This is no address to dial.");
    if (caller !== null && caller !== data.incarnation)
      throw new LockstepError("LS_NOT_ALLOWED", "A worker has itself dialled back, and nobody else.");
    if (this.#asked.size >= MOST_AT_ONCE) throw new LockstepError("LS_BUSY", "Others are being dialled; ask again.");
    const { address } = data;
    // Who has no name of its own is known by the host that it wants to have dialled.
    if (!this.#ofOne.take(caller ?? splitAddress(address)!.host, now) || !this.#ofAll.take("", now))
      throw new LockstepError("LS_BUSY", "This machine was dialled back often enough; ask again in a minute.");
    const incarnation = data.incarnation as Incarnation;
    const others = this.#parts.workers().slice(-MOST_WORKERS);
    const open = new Map(others.map((other) => [other.incarnation, other.name]));
    const asked: Asked = { incarnation, open, failures: [], answers: 0, end: () => {} };
    const over = new Promise<void>((resolve) => {
      asked.end = resolve;
    });
    this.#asked.add(asked);
    const timer = setTimeout(asked.end, this.#parts.patience ?? PATIENCE);
    try {
      for (const to of open.keys()) this.#parts.send(to, { kind: "dial", incarnation, address });
      if (open.size === 0) asked.end();
      const failure = (await this.#parts.dial(address, incarnation)) ?? "";
      await over;
      const { answers, failures } = asked;
      return { failure, nats: this.#parts.nats ?? "", workers: answers, failures };
    } finally {
      clearTimeout(timer);
      this.#asked.delete(asked);
    }
  }

  dialled(from: Incarnation, { incarnation, failure }: Extract<WorkerMessage, { kind: "dialled" }>): void {
    for (const asked of this.#asked) {
      const name = asked.open.get(from);
      if (asked.incarnation !== incarnation || name === undefined) continue;
      asked.open.delete(from);
      asked.answers += 1;
      if (failure !== "") asked.failures.push(`${name}: ${failure}`);
      if (asked.open.size === 0) asked.end();
    }
  }
}
