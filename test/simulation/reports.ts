import type { Progress, WorkerMessage } from "../../shared/protocol/messages.ts";
import { viewName } from "../../shared/protocol/view.ts";
import { standingOf } from "../../worker/member/member.ts";
import type { SimWorker } from "./sim-worker.ts";

/** First message of a session. */
export function helloOf(worker: SimWorker): Extract<WorkerMessage, { kind: "hello" }> {
  return {
    kind: "hello",
    incarnation: worker.incarnation,
    name: worker.incarnation,
    host: "host",
    pid: 1,
    version: "0",
    address: worker.incarnation,
    httpAddress: "",
    labels: {},
    promised: worker.member.promised,
    standing: standingOf(worker.member),
  };
}

/** What it says of itself, on which detection and re-balancing build. */
export function progressOf(worker: SimWorker): Progress {
  const step = worker.member.step;
  return {
    view: worker.member.view?.id ?? null,
    step: worker.member.tip.step,
    phase: worker.member.idle ? "idle" : step === null ? "waiting" : step.computed ? "exchange" : "compute",
    stepMillis: 0,
    level: step?.level ?? worker.member.whole,
    shardMillis: worker.committedSteps > 0 ? worker.shardMillis : 0,
    images: 0,
    residentBytes: 0,
    peers: owedTo(worker),
  };
}

function owedTo(worker: SimWorker): Progress["peers"] {
  const { view, step } = worker.member;
  if (view === null || step === null) return [];
  const inbox = worker.views.get(viewName(view.id));
  return view.members
    .filter((m) => m.incarnation !== worker.incarnation)
    .map((m) => {
      const has = inbox?.partials.get(step.step)?.has(m.incarnation) ?? false;
      const trailer = step.trailers.has(m.incarnation);
      return { incarnation: m.incarnation, owed: has && trailer ? 0 : 1, received: has ? 1 : 0 };
    });
}
