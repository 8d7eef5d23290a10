import type { JsonLine } from "../../shared/data/json-lines.ts";

/** One final step, as the report shows it. */
export interface StepFact {
  /** Steps done after it, so the first is 1. */
  readonly step: number;
  /** Milliseconds since 1970; null where the line does not say. */
  readonly time: number | null;
  readonly loss: number | null;
  /** Share of right predictions in training, augmentation and all. */
  readonly accuracy: number | null;
  readonly samples: number | null;
  readonly members: number | null;
  readonly applied: boolean;
}

/** One line of the cluster's history. */
export interface EventFact {
  readonly time: number | null;
  readonly kind: string;
  readonly step: number | null;
  readonly members: number | null;
  /** A sentence for people. */
  readonly text: string;
}

const numberIn = (line: JsonLine, ...names: readonly string[]): number | null => {
  for (const name of names) {
    const value = line[name];
    if (typeof value === "number" && Number.isFinite(value)) return value;
  }
  return null;
};

/** Milliseconds since 1970, written as such, as seconds, or as ISO 8601. */
function timeIn(line: JsonLine): number | null {
  const value = line.time ?? line.at;
  if (typeof value === "string") {
    const parsed = Date.parse(value);
    return Number.isNaN(parsed) ? null : parsed;
  }
  if (typeof value !== "number" || !Number.isFinite(value)) return null;
  return value < 1e11 ? value * 1000 : value;
}

/**
 * What the report needs of steps.ndjson. A step that was done again after a fall-back to a checkpoint counts as its last
 * line says; the steps come back in order.
 */
export function stepFacts(lines: readonly JsonLine[]): StepFact[] {
  const steps = new Map<number, StepFact>();
  for (const line of lines) {
    const index = numberIn(line, "step");
    if (index === null) continue;
    const shards = Array.isArray(line.shards) ? (line.shards as JsonLine[]) : [];
    const total = (name: string) =>
      shards.length === 0 ? null : shards.reduce((sum, shard) => sum + (numberIn(shard, name) ?? 0), 0);
    const samples = numberIn(line, "samples", "images") ?? total("samples");
    const correct = numberIn(line, "correct") ?? total("correct");
    const by = new Set(shards.map((shard) => shard.by).filter((name) => name !== undefined));
    steps.set(index, {
      step: index + 1,
      time: timeIn(line),
      loss: numberIn(line, "loss"),
      accuracy:
        numberIn(line, "accuracy") ?? (samples !== null && samples > 0 && correct !== null ? correct / samples : null),
      samples,
      members: numberIn(line, "members", "workers") ?? (by.size > 0 ? by.size : null),
      applied: line.applied !== false,
    });
  }
  return [...steps.values()].sort((a, b) => a.step - b.step);
}

/** One validation on held-out images. */
export interface ValidationFact {
  /** Steps done. */
  readonly step: number;
  readonly accuracy: number;
  readonly loss: number | null;
}

/** What the report needs of validations.ndjson, in the order of the steps. */
export function validationFacts(lines: readonly JsonLine[]): ValidationFact[] {
  const facts = lines.flatMap((line) => {
    const [step, accuracy, loss] = [numberIn(line, "step"), numberIn(line, "accuracy"), numberIn(line, "loss")];
    return step === null || accuracy === null ? [] : [{ step, accuracy, loss }];
  });
  return facts.sort((a, b) => a.step - b.step);
}

/** What the report needs of events.ndjson. */
export function eventFacts(lines: readonly JsonLine[]): EventFact[] {
  return lines.flatMap((line) => {
    const kind = line.kind ?? line.event;
    if (typeof kind !== "string") return [];
    const members = Array.isArray(line.members) ? line.members.length : numberIn(line, "members");
    const sentence = line.text ?? line.message ?? line.why ?? line.reason;
    const text = typeof sentence === "string" ? sentence : kind;
    return [{ time: timeIn(line), kind, step: numberIn(line, "step"), members, text }];
  });
}

/** A stretch of a run between two final steps. */
export interface Pace {
  /** Seconds since the first final step. */
  readonly from: number;
  readonly to: number;
  readonly imagesPerSecond: number;
}

/** Steps in a stretch, at least: fewer would show the comb of single steps instead of the pace. */
const STRETCH = 4;

/** Images a second over at most `parts` stretches of as many steps each; none without times. */
export function paceOf(steps: readonly StepFact[], parts = 120): Pace[] {
  const timed = steps
    .flatMap(({ time, samples }) => (time === null || samples === null ? [] : [{ time, samples }]))
    .sort((a, b) => a.time - b.time);
  const stretch = Math.max(STRETCH, Math.ceil((timed.length - 1) / parts));
  const pace: Pace[] = [];
  for (let start = 0; start + 1 < timed.length; ) {
    // What is left at the end joins the last stretch: a step or two alone say little, and the last ones come together.
    const left = timed.length - 1 - start;
    const end = start + (left < 2 * stretch ? left : stretch);
    const part = timed.slice(start, end + 1);
    start = end;
    const from = (part[0]!.time - timed[0]!.time) / 1000;
    const to = (part.at(-1)!.time - timed[0]!.time) / 1000;
    const images = part.slice(1).reduce((sum, { samples }) => sum + samples, 0);
    if (to > from) pace.push({ from, to, imagesPerSecond: images / (to - from) });
  }
  return pace;
}
