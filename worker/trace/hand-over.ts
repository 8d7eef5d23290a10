import type { Incarnation } from "../../shared/protocol/view.ts";
import { clockName, machineMillis, wallOffset } from "../../shared/trace/machine-clock.ts";
import { encodePart } from "../../shared/trace/part.ts";
import { Skew } from "../../shared/trace/skew.ts";
import type { Channel } from "../coordinator-calls.ts";
import type { StepTrace } from "./step-trace.ts";

/** How often the coordinator's clock is asked, and how long an answer may take, in milliseconds. */
const ASK_MILLIS = 1000;
/** How long the hand-over may hold up a worker that ends, in milliseconds. */
const HAND_OVER_MILLIS = 10_000;

/** Who a worker is. */
export interface TraceIdentity {
  readonly run: string;
  readonly incarnation: Incarnation;
  readonly name: string;
  readonly host: string;
}

/** Asks for the coordinator's time while the worker lives, and hands over what it has traced when it ends. */
export class TraceHandOver {
  readonly #trace: StepTrace;
  readonly #identity: TraceIdentity;
  readonly #channel: Channel;
  readonly #skew = new Skew();
  readonly #timer: NodeJS.Timeout;
  #asking = false;

  constructor(trace: StepTrace, identity: TraceIdentity, channel: Channel) {
    this.#trace = trace;
    this.#identity = identity;
    this.#channel = channel;
    this.#timer = setInterval(() => this.#ask(), ASK_MILLIS);
    this.#ask();
  }

  /** Resolves when the coordinator has it, or with a sentence why it has not. Never rejects, and takes ten seconds at most. */
  async finish(): Promise<string | null> {
    clearInterval(this.#timer);
    const client = this.#channel();
    if (client === null) return "the coordinator is away";
    const { run, ...identity } = this.#identity;
    const { recorder } = this.#trace;
    const json = encodePart({
      ...identity,
      pid: process.pid,
      clock: clockName(),
      wallOffset: wallOffset(),
      skew: this.#skew.estimate(),
      droppedSteps: recorder.droppedSteps,
      spans: recorder.spans(),
    });
    return new Promise((resolve) => {
      client.pushTrace(
        { run, incarnation: identity.incarnation, json },
        { deadline: Date.now() + HAND_OVER_MILLIS },
        (error) => resolve(error === null ? null : error.message),
      );
    });
  }

  #ask(): void {
    const client = this.#channel();
    if (client === null || this.#asking) return;
    this.#asking = true;
    const sent = machineMillis();
    client.getClock({}, { deadline: Date.now() + ASK_MILLIS }, (error, clock) => {
      this.#asking = false;
      if (error === null && clock !== undefined)
        this.#skew.add({ sent, answered: clock.millis, received: machineMillis() });
    });
  }
}
