import { type Proportion, wilson } from "./interval.ts";
import type { Classified } from "./probabilities.ts";

/**
 * Share of samples whose true class is among the k largest logits. Equal logits rank by class index, so that top-1 is
 * the share of right predictions exactly.
 */
export function topK({ samples, classes, logits, labels }: Classified, k: number): Proportion {
  let hits = 0;
  for (let i = 0; i < samples; i++) {
    const at = i * classes;
    const label = labels[i]!;
    const own = logits[at + label]!;
    let above = 0;
    for (let c = 0; c < classes; c++) {
      const value = logits[at + c]!;
      if (value > own || (value === own && c < label)) above += 1;
    }
    if (above < k) hits += 1;
  }
  return wilson(hits, samples);
}
