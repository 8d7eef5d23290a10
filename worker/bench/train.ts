import { type ErrorFacts, errorFrom, LockstepError } from "../../shared/errors.ts";
import { ComputeProcess } from "../compute/compute-process.ts";
import { type Spread, spreadOf } from "./spread.ts";
import type { BenchMode, DispatchTimes, StepTimes } from "./step-bench.ts";

export interface TrainBenchRequest {
  /** A key of BENCH_MODELS. */
  readonly model: string;
  readonly modes: readonly BenchMode[];
  /** Images of a micro-batch, and their side in pixels. */
  readonly samples: number;
  readonly side: number;
  readonly tries: number;
}

type Measured = BenchMode & {
  readonly parameters: number;
  readonly first: number;
  readonly times: readonly StepTimes[];
  readonly dispatch: readonly DispatchTimes[];
};

export type TrainBenchReply =
  | { readonly kind: "measured"; readonly measured: readonly Measured[]; readonly labels: Record<string, string> }
  | ({ readonly kind: "failed" } & ErrorFacts);

/** One model in one mode: gradients only, without loading, exchange and update, which is what one worker can reach. */
export interface TrainFigures extends BenchMode {
  readonly model: string;
  readonly parameters: number;
  readonly samples: number;
  readonly side: number;
  /** The compute ceiling of one worker. */
  readonly imagesPerSecond: Spread;
  /** Images by second of CPU time of all threads: what an undisturbed core would do. */
  readonly imagesPerCpuSecond: Spread;
  /** Of the first micro-batch of its shape, recording and optimising the graph included; milliseconds. */
  readonly firstMillis: number;
  /** Time in JavaScript and in the add-on beside the arithmetic, for one micro-batch; milliseconds. */
  readonly dispatchMillis: Spread;
  readonly javascriptMillis: Spread;
  /** Calls into the add-on for one micro-batch, and operations among them. */
  readonly calls: number;
  readonly operations: number;
  readonly labels: Readonly<Record<string, string>>;
}

/**
 * Times a model in a process of its own, on one thread as workers have it, all modes in turns.
 * @param program path of the built train-main.js
 * @throws LockstepError what the process complained about, LS_BENCH where it died
 */
export async function benchTrain(program: string, request: TrainBenchRequest): Promise<TrainFigures[]> {
  const { samples, side, model } = request;
  const reply = await inProcess(program, request);
  if (reply.kind === "failed") throw errorFrom(reply);
  return reply.measured.map(({ execution, precision, parameters, first, times, dispatch }) => ({
    ...{ model, execution, precision, parameters, samples, side },
    imagesPerSecond: spreadOf(times.map(({ wall }) => (samples / wall) * 1e3)),
    imagesPerCpuSecond: spreadOf(times.map(({ cpu }) => (samples / cpu) * 1e3)),
    firstMillis: first,
    dispatchMillis: spreadOf(dispatch.map(({ javascript, empty }) => javascript + empty)),
    javascriptMillis: spreadOf(dispatch.map(({ javascript }) => javascript)),
    calls: dispatch[0]!.calls,
    operations: dispatch[0]!.operations,
    labels: reply.labels,
  }));
}

function inProcess(program: string, request: TrainBenchRequest): Promise<TrainBenchReply> {
  const timed = new ComputeProcess(program, "cpu");
  const { child } = timed;
  return new Promise((resolve, reject) => {
    child.once("message", (reply) => resolve(reply as TrainBenchReply));
    child.once("error", reject);
    child.once("exit", (code, by) =>
      reject(new LockstepError("LS_BENCH", `The process that was timed ${timed.ending(code, by)}`)),
    );
    child.send(request);
  });
}
