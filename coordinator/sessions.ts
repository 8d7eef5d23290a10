import { LockstepError, sentenceOf } from "../shared/errors.ts";
import type { CoordinatorMessage, Standing, WorkerMessage } from "../shared/protocol/messages.ts";
import type { LedgerEntry } from "../shared/protocol/trailer.ts";
import type { Incarnation } from "../shared/protocol/view.ts";
import { type Envelope, parseWorkerMessage, wireCoordinatorMessage } from "../shared/rpc/convert.ts";
import type { Peer } from "../shared/security/names.ts";
import { malformedEntry } from "./records/record.ts";

/** What a session needs of gRPC's duplex stream. */
export interface SessionCall {
  readonly writableLength: number;
  write(envelope: Envelope): unknown;
  end(): void;
  destroy(error?: Error): unknown;
  on(event: "data", listener: (envelope: Envelope) => void): unknown;
  on(event: "end" | "error" | "cancelled" | "close", listener: () => void): unknown;
}

export interface SessionEvents {
  /** @param peer who it is, where the connection had to show it */
  onHello(hello: Extract<WorkerMessage, { kind: "hello" }>, peer: Peer | null): void;
  onMessage(from: Incarnation, message: WorkerMessage): void;
  onEnd(incarnation: Incarnation): void;
  /** A stream was closed because of what came over it, or because nothing could be sent over it: then its code is "". */
  onRefused(who: string, reason: string, code: string): void;
}

/** Messages that may wait for a worker that does not read; then its stream is closed. */
const MOST_QUEUED = 512;

/**
 * The workers' sessions: one stream for each incarnation, its newest one. What comes in is checked here, and trusted
 * behind: a worker that sends what cannot be is told so and loses its stream.
 */
export class Sessions {
  readonly #calls = new Map<Incarnation, SessionCall>();
  readonly #peers = new Map<Incarnation, Peer>();
  readonly #events: SessionEvents;
  readonly #shards: number;

  /** @param shards V */
  constructor(shards: number, events: SessionEvents) {
    this.#shards = shards;
    this.#events = events;
  }

  get incarnations(): Incarnation[] {
    return [...this.#calls.keys()];
  }

  /** Who is at the other end of a session, where the connection had to show it. */
  peerOf(incarnation: Incarnation): Peer | null {
    return this.#peers.get(incarnation) ?? null;
  }

  /** @param peer who opened the stream, where the connection had to show it */
  open(call: SessionCall, peer: Peer | null = null): void {
    let incarnation: Incarnation | null = null;
    const ended = () => {
      if (incarnation !== null) this.#drop(incarnation, call);
    };
    call.on("data", (envelope) => {
      // An older stream may still hold messages of before the redial: the worker says again what matters.
      if (incarnation !== null && this.#calls.get(incarnation) !== call) return;
      try {
        const message = parseWorkerMessage(envelope);
        this.#checkEntries(message);
        if (incarnation === null) incarnation = this.#greet(message, call, peer);
        else this.#events.onMessage(incarnation, message);
      } catch (error) {
        this.#refuse(call, incarnation, error);
      }
    });
    call.on("end", () => {
      call.end();
      ended();
    });
    for (const event of ["cancelled", "error", "close"] as const) call.on(event, ended);
  }

  /** Sends where there is a stream; the machines say again after a redial what was lost with one. */
  send(to: Incarnation, message: CoordinatorMessage): void {
    const call = this.#calls.get(to);
    if (call === undefined) return;
    if (call.writableLength > MOST_QUEUED) {
      this.#events.onRefused(to, "it does not read what it is sent", "");
      call.destroy();
      return this.#drop(to, call);
    }
    call.write(wireCoordinatorMessage(message));
  }

  close(incarnation: Incarnation): void {
    const call = this.#calls.get(incarnation);
    if (call === undefined) return;
    call.end();
    this.#drop(incarnation, call);
  }

  /** What a worker must not go on with is said to it, and its stream ends. */
  reject(incarnation: Incarnation, code: `LS_${string}`, message: string): void {
    this.send(incarnation, { kind: "rejected", code, message });
    this.close(incarnation);
  }

  #greet(message: WorkerMessage, call: SessionCall, peer: Peer | null): Incarnation {
    if (message.kind !== "hello") {
      throw new LockstepError("LS_MALFORMED", `A session began with "${message.kind}" instead of hello.`);
    }
    if (peer !== null && peer.incarnation !== null && peer.incarnation !== message.incarnation) {
      throw new LockstepError("LS_WRONG_INCARNATION", "The certificate of this session is that of another worker.");
    }
    const before = this.#calls.get(message.incarnation);
    this.#calls.set(message.incarnation, call);
    if (peer !== null) this.#peers.set(message.incarnation, peer);
    before?.end();
    this.#events.onHello(message, peer);
    return message.incarnation;
  }

  #checkEntries(message: WorkerMessage): void {
    for (const entry of entriesIn(message)) {
      const wrong = malformedEntry(entry, this.#shards);
      if (wrong !== null) throw new LockstepError("LS_MALFORMED", `A message is malformed: ${wrong}.`);
    }
  }

  #refuse(call: SessionCall, incarnation: Incarnation | null, error: unknown): void {
    const code = error instanceof LockstepError ? error.code : "LS_MALFORMED";
    this.#events.onRefused(incarnation ?? "an unknown worker", sentenceOf(error), code);
    call.write(wireCoordinatorMessage({ kind: "rejected", code, message: sentenceOf(error) }));
    call.end();
    if (incarnation !== null) this.#drop(incarnation, call);
  }

  #drop(incarnation: Incarnation, call: SessionCall): void {
    if (this.#calls.get(incarnation) !== call) return;
    this.#calls.delete(incarnation);
    this.#peers.delete(incarnation);
    this.#events.onEnd(incarnation);
  }
}

/** Ledger entries that a message brings. */
function entriesIn(message: WorkerMessage): readonly LedgerEntry[] {
  if (message.kind === "final") return message.entries;
  const standing: Standing | null = "standing" in message ? message.standing : null;
  return standing?.entries ?? [];
}
