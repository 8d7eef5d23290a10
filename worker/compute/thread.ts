import { parentPort, workerData } from "node:worker_threads";
import { recipeHash } from "../../shared/config/canonical.ts";
import { validationSettings } from "../../shared/config/validation.ts";
import { openDataset } from "../../shared/data/dataset.ts";
import { LockstepError, sentenceOf } from "../../shared/errors.ts";
import { layoutOf } from "../../shared/model/layout.ts";
import { nextLineage, rootLineage } from "../../shared/model/lineage.ts";
import { Plan } from "../../shared/plan/plan.ts";
import type { ShardRange } from "../../shared/plan/tree.ts";
import type { Tip } from "../../shared/protocol/view.ts";
import { hex64, loadArithmeticSync } from "../arithmetic/arithmetic.ts";
import { ThreadFaults } from "../faults/thread-faults.ts";
import type { LoaderFault } from "../loader/micro-batch-loader.ts";
import { LoaderPool } from "../loader/pool.ts";
import { slotLayout } from "../loader/slot.ts";
import { controlOf } from "../memory/control.ts";
import { createMemory, ofStep, planMemory } from "../memory/plan.ts";
import { touch, usedSoon } from "../memory/touch.ts";
import { ThreadSpans } from "../trace/thread-spans.ts";
import { evaluateBatch } from "./evaluate.ts";
import { fingerprint } from "./fingerprint.ts";
import { useNativeGradients } from "./kernels.ts";
import type { ComputeData, ComputeReply, ComputeRequest } from "./messages.ts";
import { initialWeights, tensorsOf } from "./model-tensors.ts";
import { buildModel } from "./models/index.ts";
import { Predictor } from "./predictor.ts";
import { ShardGradient } from "./shard-gradient.ts";
import { StartClock } from "./start-clock.ts";
import { ShardSums } from "./step.ts";
import { loadTensorFlow, runtimeLabels, sharesMemory } from "./tensorflow.ts";
import { Update } from "./update.ts";
import { Validator } from "./validator.ts";

/**
 * The compute thread: TensorFlow, the loaders, and the update of the state in shared memory. It blocks while it works and
 * does one request at a time; the commit word decides between it and the main thread.
 */
const { config } = workerData as ComputeData;
const { recipe, place } = config;
const reply = (message: ComputeReply) => parentPort!.postMessage(message);

const clock = new StartClock();
const spans = place.trace === undefined ? null : new ThreadSpans();

async function prepare() {
  const tf = loadTensorFlow();
  useNativeGradients(tf);
  clock.lap("runtime");
  const dataset = openDataset(place.dataDirectory, recipe.trainingPart);
  const { height, width, channels } = dataset.shape;
  const model = await buildModel(tf, recipe.model, [height, width, channels], recipe.data.classes, place.modelFile);
  const tensors = tensorsOf(model);
  const layout = layoutOf(
    tensors.map(({ spec }) => spec),
    recipe.bucketBytes,
  );
  const memoryPlan = planMemory({
    layout,
    shards: recipe.shards,
    optimizer: recipe.optimizer.kind,
    ema: recipe.ema !== null,
    held: recipe.earlyStopping !== undefined,
    loaderSlots: LOADER_SLOTS,
    loaderBytes: slotLayout(recipe).bytes,
    receiveBytes: 65536,
  });
  const memory = createMemory(memoryPlan);
  const arithmetic = loadArithmeticSync(memory);
  const control = controlOf(memory, memoryPlan.control.address);
  const slots = memoryPlan.loader.map((region) => region.address);
  const shared = sharesMemory(tf, memory, slots[0]!);
  const weights = memoryPlan.state.weights;
  const gradient = new ShardGradient(tf, model, { layout, memory, weights, recipe, shared });
  const threadFile = new URL("../loader/thread.js", import.meta.url);
  const loader = new LoaderPool({
    memory,
    slots,
    dataDirectory: place.dataDirectory,
    recipe,
    threads: 1,
    threadFile,
    fault: loaderFault(),
  });
  const { seed, shards, stepsPerEpoch } = recipe;
  const plan = new Plan({ labels: dataset.train.labels, seed, shards, stepsPerEpoch });
  const faults = new ThreadFaults(memory, memoryPlan.state, (fault) => reply({ kind: "strike", fault }));
  const memoryParts = { arithmetic, memory: memoryPlan, layout, recipe };
  const sums = new ShardSums({ ...memoryParts, gradient, loader, control, faults, spans });
  const update = new Update(arithmetic, memoryPlan, layout, recipe);
  return {
    tf,
    dataset,
    model,
    tensors,
    layout,
    memoryPlan,
    memory,
    arithmetic,
    control,
    slots,
    gradient,
    loader,
    plan,
    sums,
    update,
    faults,
  };
}

const SLOT_NAMES = { sgd: ["momentum"], adamw: ["first_moment", "second_moment"] } as const;

/** LOCKSTEP_LOADER_FAULT=skip:ID or repeat:ID makes the loaders feed an id not at all or twice, to show that it is noticed. */
function loaderFault(): LoaderFault | null {
  const parts = /^(skip|repeat):(\d+)$/.exec(process.env.LOCKSTEP_LOADER_FAULT ?? "");
  return parts === null ? null : { kind: parts[1] as LoaderFault["kind"], sample: Number(parts[2]) };
}

/** Prepared micro-batches: those of the step under way and the first of the next. */
const LOADER_SLOTS = 4;

const parts = await prepare().catch((error: unknown) => {
  fail(error);
  return process.exit(3);
});
const { tf, dataset, layout, memoryPlan, memory, arithmetic, control, loader } = parts;
const { state } = memoryPlan;

function fail(error: unknown): void {
  const known = error instanceof LockstepError ? error : null;
  const code = known?.code ?? "LS_COMPUTE";
  const message =
    known === null
      ? `The compute thread failed: ${sentenceOf(error)}.`
      : [known.message, known.hint ?? ""].join(" ").trim();
  reply({ kind: "failed", code, message, stack: String((error as Error).stack ?? error) });
}

/** Hash of the whole state image as it is now. */
function hashState(): string {
  arithmetic.blockHashes(state.address, state.floats, state.table);
  return hex64(arithmetic.hashTable(state.table, state.entries));
}

/** Hands over what was noted of a request, before its answer. */
function handSpans(): void {
  if (spans !== null) reply({ kind: "spans", spans: spans.take() });
}

function makeInitial(): Tip {
  arithmetic.zero(state.address, state.bytes);
  const weights = new Float32Array(memory.buffer, state.weights, layout.stateFloats);
  initialWeights(parts.tensors, layout, recipe.seed, weights);
  if (state.ema !== null) arithmetic.copy(state.ema, state.weights, layout.stateFloats * 4);
  const stateHash = hashState();
  return { step: 0, lineage: rootLineage(recipeHash(recipe), recipe.data.sha256, stateHash), stateHash };
}

function compute(viewTag: number, step: number, shards: ShardRange): void {
  const wanted = () => {
    const word = control.commitWord.read();
    return word.phase === "open" && word.viewTag === viewTag && word.step === step;
  };
  if (!wanted()) return;
  control.counters.set("step", step);
  const done = parts.sums.run(step, shards, (shard) => {
    loader.prefetch(ahead(step, shards, shard));
    return wanted();
  });
  if (done === null || !wanted()) return;
  // The nodes leave while the state is hashed: without the trailer, which carries the hash, nobody commits.
  reply({ kind: "summed", viewTag, step, nodes: done.nodes });
  const started = performance.now();
  const hashing = spans?.now() ?? 0;
  const stateHash = hashState();
  spans?.add("hash state", hashing, step);
  handSpans();
  control.counters.add("hashMillis", performance.now() - started);
  control.counters.set("loaderReady", loader.ready());
  control.counters.set("tensors", tf.memory().numTensors);
  reply({ kind: "computed", viewTag, step, nodes: done.nodes, shards: done.shards, stateHash });
}

/** This step's micro-batches from `next` on, then the next step's. */
function* ahead(step: number, { from, to }: ShardRange, next: number) {
  for (let shard = next; shard < to; shard++) yield { step, shard };
  if (step + 1 >= recipe.steps) return;
  for (let shard = from; shard < to; shard++) yield { step: step + 1, shard };
}

function commit(request: Extract<ComputeRequest, { kind: "commit" }>): void {
  const { viewTag, step, parent, idsDigests, samples } = request;
  const started = performance.now();
  const examining = spans?.now() ?? 0;
  const reduced = ofStep(memoryPlan.reduced, step);
  const { sound, hash, squares } = parts.update.examine(reduced);
  spans?.add("examine sum", examining, step);
  if (!sound || !control.commitWord.tryCommit(viewTag, step))
    return reply({ kind: "notCommitted", viewTag, step, corrupt: !sound });
  const updating = spans?.now() ?? 0;
  const result = parts.update.apply(step, reduced.address, samples, squares);
  const lineage = nextLineage(parent, step, idsDigests, hash);
  // An injected fault falls between the update and the hash of what it made.
  const stateHash = parts.faults.at("update") ? hashState() : parts.update.stateHash();
  spans?.add("update + hash", updating, step);
  handSpans();
  control.counters.add("updateMillis", performance.now() - started);
  control.commitWord.finishUpdate(viewTag);
  reply({ kind: "updated", viewTag, step, lineage, stateHash, ...result });
}

const exported = () => new Float32Array(memory.buffer, state.ema ?? state.weights, layout.stateFloats);
const validator = new Validator(tf, parts.model, layout, dataset, config, validationSettings(config)?.batch ?? 1);
let predictor: Predictor | null = null;
function evaluate(batch: number): void {
  if (predictor === null) {
    // Evaluation has a model of its own, with the exported weights: the training model keeps reading shared memory.
    predictor = new Predictor(tf, parts.model, layout, exported());
    validator.displaced();
  }
  const result = evaluateBatch(predictor, dataset, config, batch, place.evaluation!.batch);
  parentPort!.postMessage({ kind: "evaluated", batch, result } satisfies ComputeReply);
}

function hold(step: number, stateHash: string): void {
  validator.hold(step, exported());
  if (memoryPlan.held !== null) arithmetic.copy(memoryPlan.held.address, state.address, state.bytes);
  // It may have waited for long: a bit that has flipped since is in the copy too.
  reply({ kind: "held", step, sound: hashState() === stateHash });
}

function validate(step: number, batch: number): void {
  predictor = null;
  const counts = validator.run(step, batch);
  if (counts !== null) reply({ kind: "validated", step, batch, ...counts });
}

function handle(request: ComputeRequest): void {
  switch (request.kind) {
    case "compute":
      predictor = null;
      return compute(request.viewTag, request.step, request.shards);
    case "commit":
      return commit(request);
    case "initial":
      return reply({ kind: "initial", tip: makeInitial() });
    case "replaced":
      predictor = null;
      return;
    case "snapshot": {
      const copying = spans?.now() ?? 0;
      arithmetic.copy(memoryPlan.snapshot.address, state.address, state.bytes);
      spans?.add("copy for checkpoint", copying, request.tip.step);
      handSpans();
      return reply({ kind: "snapshot", tip: request.tip });
    }
    case "evaluate":
      return evaluate(request.batch);
    case "hold":
      return hold(request.step, request.stateHash);
    case "validate":
      return validate(request.step, request.batch);
    case "inject":
      return parts.faults.inject(request.fault);
    case "ping":
      return reply({ kind: "pong" });
    case "stop":
      void loader.close().then(() => process.exit(0));
      return;
    default:
      return request satisfies never;
  }
}

parentPort!.on("message", (request: ComputeRequest) => {
  try {
    handle(request);
  } catch (error) {
    fail(error);
  }
});

clock.lap("data");
const root = makeInitial();
const print = fingerprint({
  arithmetic,
  gradient: parts.gradient,
  layout,
  recipe,
  shape: dataset.shape,
  sizes: parts.plan.sizes(),
  slot: parts.slots[0]!,
  buffer: memoryPlan.nodes[0]!,
});
clock.lap("fingerprint");
if (!arithmetic.keepsDenormals()) {
  fail(
    new LockstepError("LS_DENORMALS", "This thread flushes denormals to zero after TensorFlow ran in it.", {
      exitCode: 3,
    }),
  );
}
reply({
  kind: "ready",
  memory,
  plan: memoryPlan,
  layout,
  fingerprint: print,
  root,
  startMillis: clock.laps,
  labels: { ...runtimeLabels(tf), precision: recipe.precision, execution: recipe.execution },
  facts: {
    parameters: [...layout.trainable].reduce((sum, slot) => sum + slot.size, 0),
    weightBytes: [...layout.trainable, ...layout.statistics].reduce((sum, slot) => sum + slot.size * 4, 0),
    stateBytes: state.bytes,
    sections: [
      { name: "weights", floats: layout.stateFloats },
      ...state.slots.map((_, i) => ({ name: SLOT_NAMES[recipe.optimizer.kind][i]!, floats: layout.trainableFloats })),
      ...(state.ema === null ? [] : [{ name: "ema", floats: layout.stateFloats }]),
    ],
  },
});
// Nobody waits for this thread yet.
touch(memory, usedSoon(memoryPlan, recipe.shards));
