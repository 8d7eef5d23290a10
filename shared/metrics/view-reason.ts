import type { VIEW_REASONS } from "./table.ts";

export type ViewReason = (typeof VIEW_REASONS)[number];

const PATTERNS: readonly (readonly [RegExp, ViewReason])[] = [
  [/^start\b/, "start"],
  [/take-over/, "take-over"],
  [/^join\b/, "join"],
  [/^level\b/, "level"],
  [/^(leave\b|the last worker left)/, "leave"],
  [/^(stop\b|the end\b|end\b)/, "stop"],
  [/not level in time/, "late"],
  [/\blost\b/, "loss"],
  [/\b(mismatch|differ)\b/, "mismatch"],
  [/\bbalance\b/, "balance"],
];

/** The kind of a view's reason: sentences name workers and steps, and a label must stay bounded. */
export function viewReason(sentence: string): ViewReason {
  return PATTERNS.find(([pattern]) => pattern.test(sentence))?.[1] ?? "other";
}
