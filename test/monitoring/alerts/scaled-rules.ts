import { RULES } from "../names.ts";

const MILLIS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/**
 * The shipped rules with every time window, waiting time and offset divided by `factor`, so that a test need not wait for
 * minutes. Thresholds, labels and expressions stay what they are; so do numbers of seconds inside an expression.
 * @param factor at least 1; windows must still hold some scrapes
 */
export function scaledRules(factor: number, rules = RULES): string {
  const shorter = (_: string, before: string, count: string, unit: string, after: string) =>
    `${before}${durationText((Number(count) * MILLIS[unit]!) / factor)}${after}`;
  return rules
    .replaceAll(/(\[)(\d+)(ms|s|m|h)(\])/g, shorter)
    .replaceAll(/(for: )(\d+)(ms|s|m|h)($)/gm, shorter)
    .replaceAll(/(offset )(\d+)(ms|s|m|h)(\b)/g, shorter);
}

const durationText = (millis: number): string => {
  const whole = Math.max(1, Math.round(millis));
  return whole % 1000 === 0 ? `${whole / 1000}s` : `${whole}ms`;
};
