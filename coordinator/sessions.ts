import { LockstepError, sentenceOf } from "../shared/errors.ts";
import type { CoordinatorMessage, WorkerMessage } from "../shared/protocol/messages.ts";
import type { Incarnation } from "../shared/protocol/view.ts";
import { parseWorkerMessage, wireCoordinatorMessage } from "../shared/rpc/convert.ts";
import type { grpc } from "../shared/rpc/service.ts";

type Call = grpc.ServerDuplexStream<object, object>;

export interface SessionEvents {
  onHello(hello: Extract<WorkerMessage, { kind: "hello" }>): void;
  onMessage(from: Incarnation, message: WorkerMessage): void;
  onEnd(incarnation: Incarnation): void;
  onRefused(reason: string): void;
}

/** The workers' sessions: one stream for each incarnation, its newest one. */
export class Sessions {
  private readonly calls = new Map<Incarnation, Call>();
  private readonly events: SessionEvents;

  constructor(events: SessionEvents) {
    this.events = events;
  }

  open(call: Call): void {
    let incarnation: Incarnation | null = null;
    const ended = () => {
      if (incarnation === null || this.calls.get(incarnation) !== call) return;
      this.calls.delete(incarnation);
      this.events.onEnd(incarnation);
    };
    call.on("data", (envelope: object) => {
      try {
        const message = parseWorkerMessage(envelope as never);
        if (incarnation !== null) return this.events.onMessage(incarnation, message);
        if (message.kind !== "hello") throw new LockstepError("LS_MALFORMED", "A session began without hello.");
        incarnation = message.incarnation;
        const before = this.calls.get(incarnation);
        this.calls.set(incarnation, call);
        before?.end();
        this.events.onHello(message);
      } catch (error) {
        this.events.onRefused(sentenceOf(error));
        call.end();
      }
    });
    call.on("end", () => {
      call.end();
      ended();
    });
    call.on("cancelled", ended);
    call.on("error", ended);
  }

  send(to: Incarnation, message: CoordinatorMessage): void {
    this.calls.get(to)?.write(wireCoordinatorMessage(message));
  }

  close(incarnation: Incarnation): void {
    const call = this.calls.get(incarnation);
    if (call === undefined) return;
    this.calls.delete(incarnation);
    call.end();
    this.events.onEnd(incarnation);
  }

  get incarnations(): Incarnation[] {
    return [...this.calls.keys()];
  }
}
