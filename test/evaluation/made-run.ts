import type { Config } from "../../shared/config/schema.ts";
import type { EventFact, StepFact } from "../../worker/evaluation/history.ts";
import type { ReportFacts } from "../../worker/evaluation/report.ts";
import { lehmer } from "./support.ts";

/** A run as a report sees it: a config, a summary, steps and events that fit together. */

const steps = 480;
const start = Date.UTC(2026, 4, 12, 9, 30);

export const madeConfig: Config = {
  runId: "brave-otter-0512",
  recipe: {
    format: 1,
    recipe: "resnet-120",
    model: { name: "resnet", sourceSha256: null, options: { dropout: 0.1 }, statisticsMomentum: 0.9 },
    data: { sha256: "ab".repeat(32), trainImages: 5000, classes: 10, channels: 3, height: 96, width: 96 },
    seed: 7,
    shards: 8,
    batch: 64,
    stepsPerEpoch: 79,
    steps,
    learningRates: Array.from({ length: steps }, (_, i) => 0.08 * Math.min(1, (i + 1) / 48, 1 - i / steps)),
    resolutions: [{ fromEpoch: 0, side: 96 }],
    optimizer: { kind: "sgd", momentum: 0.9, nesterov: true, weightDecay: 5e-4 },
    labelSmoothing: 0.1,
    ema: { decay: 0.998 },
    augmentation: {
      cropPadding: 12,
      border: "reflect",
      resizedCrop: null,
      flip: 0.5,
      mean: [0.4467, 0.4398, 0.4066],
      deviation: [0.2603, 0.2566, 0.2713],
      colour: null,
      cutout: 0,
    },
    precision: "float32",
    execution: "eager",
    wire: "float32",
    bucketBytes: 4 << 20,
    flipAveraging: true,
  },
  place: {
    workers: 3,
    minWorkers: 1,
    dataDirectory: "data",
    outDirectory: "runs/brave-otter-0512",
    modelFile: null,
    listen: "127.0.0.1",
    evaluation: { batch: 64, examined: 100 },
    checkpoint: { everySteps: 100, keep: 3 },
    timing: {
      heartbeatInterval: 300,
      heartbeatTimeout: 1500,
      redialFirst: 100,
      redialMax: 1000,
      levelTimeout: 10_000,
      stepBudgetFactor: 5,
      stepBudgetFloor: 20_000,
      firstStepBudget: 60_000,
      grace: 5000,
      answerTimeout: 10_000,
      checkpointTimeout: 120_000,
      leaveTimeout: 30_000,
      quarantineFirst: 500,
      quarantineMax: 60_000,
      slowRetry: 60_000,
      sayAgain: 10_000,
      maxWait: 60_000,
    },
    balance: { gain: 0.15, steps: 20 },
    nats: null,
  },
};

export const madeFacts: ReportFacts = {
  run: madeConfig.runId,
  model: "resnet",
  recipe: "resnet-120",
  workers: 3,
  shards: 8,
  steps,
  epochs: 6,
  imagesPerSecond: 41.2,
  wallSeconds: 762,
  evaluationSeconds: 48.2,
  weightsSha256: "3f6f0b1c".repeat(8),
  stateSha256: "91d2c7aa".repeat(8),
  lineage: "0c4e88f1".repeat(8),
  reproducible: true,
  reproducibleReason: "deterministic kernels, one thread, float32",
  parameters: 4_357_226,
  modelBytes: 17_444_120,
  views: 4,
  failuresSurvived: 1,
  samplesPerEpochExact: true,
};

export const madeSteps: StepFact[] = (() => {
  const random = lehmer(5);
  let time = start;
  return Array.from({ length: steps }, (_, i) => {
    const members = i < 200 ? 3 : i < 300 ? 2 : 3;
    time += (64 / (14 * members)) * 1000 * (0.9 + 0.2 * random()) + (i === 200 ? 2400 : 0);
    const progress = 1 - Math.exp(-i / 160);
    return {
      step: i + 1,
      time,
      loss: 2.3 - 1.3 * progress + 0.12 * (random() - 0.5),
      accuracy: 0.1 + 0.62 * progress + 0.08 * (random() - 0.5),
      samples: 64,
      members,
      applied: true,
    };
  });
})();

export const madeEvents: EventFact[] = [
  { time: start - 4000, kind: "view", step: 0, members: 3, text: "View 1.1: w0, w1 and w2 joined" },
  {
    time: madeSteps[200]!.time,
    kind: "view",
    step: 200,
    members: 2,
    text: "View 1.2: w1 was lost (its process ended)",
  },
  { time: madeSteps[299]!.time, kind: "view", step: 299, members: 3, text: "View 1.3: w3 joined" },
  { time: madeSteps[479]!.time, kind: "end", step: 480, members: 3, text: "The run reached its last step" },
];
