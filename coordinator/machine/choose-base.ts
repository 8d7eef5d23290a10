import type { Standing } from "../../shared/protocol/messages.ts";
import type { Incarnation, Tip } from "../../shared/protocol/view.ts";

export type BaseChoice =
  /** These workers hold the base; those in `lagging` are one step behind it on the same line. */
  | {
      readonly kind: "live";
      readonly base: Tip;
      readonly level: ReadonlySet<Incarnation>;
      readonly lagging: ReadonlySet<Incarnation>;
    }
  /** The checkpoint is ahead of, or more trustworthy than, every live state. */
  | { readonly kind: "restore"; readonly tip: Tip; readonly reason: string }
  | { readonly kind: "none"; readonly reason: string };

/**
 * The state from which the next view goes on: the highest step among whole states that the recorded line does not
 * contradict. Where states of that step differ the majority is right; without a majority, or where the checkpoint is
 * further than all live states, the checkpoint is.
 *
 * @param recorded tips of final steps by step count, as far back as they are kept
 */
export function chooseBase(
  answers: ReadonlyMap<Incarnation, Standing>,
  recorded: ReadonlyMap<number, Tip>,
  checkpoint: Tip | null,
  rules: { readonly highest: boolean; readonly majority: boolean } = { highest: true, majority: true },
): BaseChoice {
  const contradicts = (tip: Tip) => {
    const known = recorded.get(tip.step);
    return known !== undefined && known.lineage !== tip.lineage;
  };
  const wrongHash = (tip: Tip) => {
    const known = recorded.get(tip.step);
    return known !== undefined && known.stateHash !== "" && known.stateHash !== tip.stateHash;
  };
  const sound = [...answers].filter(([, s]) => s.whole && !contradicts(s.tip) && !wrongHash(s.tip));
  const steps = sound.map(([, s]) => s.tip.step);
  const highest = rules.highest || steps.length === 0 ? Math.max(-1, ...steps) : Math.min(...steps);
  if (checkpoint !== null && checkpoint.step > highest) {
    return { kind: "restore", tip: checkpoint, reason: `no live state has reached step ${checkpoint.step}` };
  }
  if (highest < 0) return { kind: "none", reason: "no worker holds a whole state" };

  const top = sound.filter(([, s]) => s.tip.step === highest);
  const groups = new Map<string, [Incarnation, Standing][]>();
  for (const member of top) {
    const key = `${member[1].tip.lineage}/${member[1].tip.stateHash}`;
    groups.set(key, [...(groups.get(key) ?? []), member]);
  }
  const ordered = [...groups.values()].sort((a, b) => b.length - a.length);
  const best = ordered[0]!;
  if (rules.majority && ordered.length > 1 && best.length * 2 <= top.length) {
    return checkpoint === null
      ? { kind: "none", reason: `states of step ${highest} differ, none has a majority and there is no checkpoint` }
      : { kind: "restore", tip: checkpoint, reason: `states of step ${highest} differ and none has a majority` };
  }
  const base = best[0]![1].tip;
  const level = new Set(best.map(([incarnation]) => incarnation));
  const lagging = new Set(sound.filter(([, s]) => s.tip.step === highest - 1).map(([incarnation]) => incarnation));
  return { kind: "live", base, level, lagging };
}
