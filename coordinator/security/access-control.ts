import { z } from "zod";
import { LockstepError } from "../../shared/errors.ts";
import type { CoordinatorMessage } from "../../shared/protocol/messages.ts";
import type { Incarnation } from "../../shared/protocol/view.ts";
import type { ControlRequest } from "../../shared/rpc/clients.ts";
import type { Peer } from "../../shared/security/names.ts";
import { tokenState } from "../../shared/security/tokens.ts";
import type { Sessions } from "../sessions.ts";
import type { JoinLinks } from "./join-links.ts";
import type { NatsKeys } from "./nats-keys.ts";
import type { RunSecurity } from "./run-security.ts";

const newTokenSchema = z.strictObject({
  lifetime: z.number().positive().nullable(),
  uses: z.number().int().positive().nullable(),
  note: z.string().max(200),
});

/** How workers speak to NATS, and how that is changed. */
type Nats = Pick<NatsKeys, "access" | "renew" | "reload">;
const FAREWELL_MILLIS = 500;

/** A worker as a person names it. */
export interface Named {
  readonly incarnation: Incarnation;
  readonly name: string;
}

/** What an operator may do about who takes part, over the `Control` call; and what workers hear of it. */
export class AccessControl {
  readonly #security: RunSecurity;
  readonly #links: JoinLinks;
  readonly #nats: Nats | null;
  readonly #sessions: Pick<Sessions, "send" | "reject" | "peerOf" | "incarnations">;
  readonly #workers: () => readonly Named[];

  constructor(
    parts: { readonly security: RunSecurity; readonly links: JoinLinks; readonly nats: Nats | null },
    sessions: Pick<Sessions, "send" | "reject" | "peerOf" | "incarnations">,
    workers: () => readonly Named[],
  ) {
    this.#security = parts.security;
    this.#links = parts.links;
    this.#nats = parts.nats;
    this.#sessions = sessions;
    this.#workers = workers;
  }

  /** null for what is no action of this kind. @throws LockstepError LS_USAGE, LS_TOKEN_UNKNOWN, LS_NO_WORKER, LS_NO_TOKENS */
  control({ action, target, detail }: ControlRequest): string | null {
    switch (action) {
      case "token-create":
        return this.#links.create(newTokenSchema.parse(JSON.parse(detail)));
      case "token-list":
        return JSON.stringify(
          this.#security.tokens.list.map(({ id, expires, uses, note, ...record }) => {
            const state = tokenState({ id, expires, uses, note, ...record }, Date.now());
            return { id, state, expires, uses, note };
          }),
        );
      case "token-revoke":
        this.#security.tokens.revoke(target);
        return `token ${target} lets nobody in any more; workers that came by it stay`;
      case "worker-revoke":
        return this.#revokeWorker(target);
      default:
        return null;
    }
  }

  /** Said to each worker with every stream, and to all when it changes. */
  tell(incarnation: Incarnation): void {
    this.#sessions.send(incarnation, this.#message());
  }

  tellAll(): void {
    for (const incarnation of this.#sessions.incarnations) this.tell(incarnation);
  }

  #message(): CoordinatorMessage {
    return {
      kind: "access",
      revoked: this.#security.revoked,
      nats: this.#nats?.access ?? null,
      httpToken: this.#security.httpToken,
    };
  }

  /** One that is away is known by its name or incarnation, and its token is not. */
  #revokeWorker(target: string): string {
    const worker = this.#workers().find(({ name, incarnation }) => name === target || incarnation === target);
    const incarnation = worker?.incarnation ?? (/^[0-9a-f]{16}$/.test(target) ? (target as Incarnation) : null);
    const peer = incarnation === null ? null : (this.#sessions.peerOf(incarnation) ?? this.#away(incarnation));
    if (incarnation === null || peer === null)
      throw new LockstepError("LS_NO_WORKER", `There is no worker "${target}" with a session in this run.`, {
        hint: "See `npx lockstep status`.",
      });
    if (peer.role === "operator")
      throw new LockstepError("LS_NOT_ALLOWED", `${target} shows the coordinator's own certificate.`, {
        hint: "Without it nobody could ask this coordinator for anything: end that worker on its machine.",
      });
    // Several workers may show one supplied certificate.
    const shows = ({ incarnation, serial }: Peer): string => incarnation ?? serial;
    for (const one of this.#sessions.incarnations) {
      const other = this.#sessions.peerOf(one);
      if (other !== null && shows(other) === shows(peer))
        this.#sessions.reject(one, "LS_REVOKED", "This worker was revoked.");
    }
    const name = worker?.name ?? target;
    const renewed = this.#nats === null || this.#nats.renew();
    this.#security.revokeWorker(peer, name);
    // The others have heard of the next password by then.
    setTimeout(() => this.#nats?.reload(), FAREWELL_MILLIS).unref();
    // The other workers of this machine may have come by the same token, and are to come back after a crash.
    this.#links.keepLocal();
    const token = peer.token === "" ? "" : `, and token ${peer.token} with it`;
    const nats = renewed ? "" : "; the password by which it publishes on NATS counts until the run is resumed";
    return `${name} (${incarnation}) was revoked${token}${nats}`;
  }

  /** Supplied certificates name no worker: those of one without a session are not known. */
  #away(incarnation: Incarnation): Peer | null {
    if (this.#security.authorityHash === null) return null;
    return { role: "worker", incarnation, serial: "", token: "" };
  }
}
