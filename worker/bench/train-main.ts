import { errorFacts } from "../../shared/errors.ts";
import { useNativeGradients } from "../compute/kernels.ts";
import { loadTensorFlow, runtimeLabels } from "../compute/tensorflow.ts";
import { StepBench } from "./step-bench.ts";
import type { TrainBenchReply, TrainBenchRequest } from "./train.ts";

/** Times one model in several modes, in turns: whatever disturbs the machine meets all of them. */
const WARM_UP = 3;
const DISPATCH_TRIES = 15;

async function measure({ model, modes, samples, side, tries }: TrainBenchRequest): Promise<TrainBenchReply> {
  const tf = loadTensorFlow();
  useNativeGradients(tf);
  const benches: StepBench[] = [];
  for (const mode of modes) benches.push(await StepBench.open(tf, model, mode, samples, side));
  const first = benches.map((bench) => bench.time().wall);
  for (let i = 0; i < WARM_UP; i++) for (const bench of benches) bench.time();
  const times = benches.map(() => [] as ReturnType<StepBench["time"]>[]);
  for (let i = 0; i < tries; i++) for (const [b, bench] of benches.entries()) times[b]!.push(bench.time());
  const measured = benches.map((bench, b) => ({
    ...modes[b]!,
    parameters: bench.parameters,
    first: first[b]!,
    times: times[b]!,
    dispatch: bench.dispatch(DISPATCH_TRIES),
  }));
  for (const bench of benches) bench.dispose();
  return { kind: "measured", measured, labels: runtimeLabels(tf) };
}

process.once("message", (request: TrainBenchRequest) => {
  measure(request)
    .catch((error: unknown): TrainBenchReply => ({ kind: "failed", ...errorFacts(error, "LS_BENCH") }))
    .then((reply) => process.send!(reply, () => process.exit(0)));
});
process.on("disconnect", () => process.exit(1));
