import type { Tip } from "../../shared/protocol/view.ts";

/**
 * The undisturbed run, and its arithmetic: a state is the digest of its history, a reduced vector the state and step on
 * which it was computed.
 */
export class Line {
  private readonly contents: string[] = [];
  private readonly tips: Tip[] = [];

  constructor(totalSteps: number) {
    let content = "s";
    let lineage = "root";
    for (let step = 0; step <= totalSteps; step++) {
      this.contents.push(content);
      this.tips.push({ step, lineage, stateHash: this.hash(content) });
      const reduced = this.gradient(content, step);
      content = this.apply(content, reduced);
      lineage = this.nextLineage(lineage, step, reduced);
    }
  }

  gradient = (content: string, step: number): string => `g${step}(${content})`;
  apply = (content: string, reduced: string): string => digest(`${content}|${reduced}`);
  nextLineage = (parent: string, step: number, reduced: string): string => digest(`${parent}|${step}|${reduced}`);
  hash = (content: string): string => `h:${content}`;

  /** The state after so many steps. */
  content = (step: number): string => this.contents[step] ?? "beyond";
  tip = (step: number): Tip => this.tips[step]!;
  get root(): Tip {
    return this.tips[0]!;
  }
}

const cache = new Map<string, string>();
/** A short digest; collisions do not matter at this size. */
function digest(text: string): string {
  const known = cache.get(text);
  if (known !== undefined) return known;
  let a = 0x811c9dc5;
  let b = 0x1000193;
  for (let i = 0; i < text.length; i++) {
    a = Math.imul(a ^ text.charCodeAt(i), 0x01000193);
    b = Math.imul(b + text.charCodeAt(i), 0x5bd1e995) ^ (b >>> 13);
  }
  const result = (a >>> 0).toString(36) + (b >>> 0).toString(36);
  if (cache.size < 100_000) cache.set(text, result);
  return result;
}
