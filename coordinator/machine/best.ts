import { finish } from "./finish.ts";
import { say, type Turn } from "./state.ts";

/** The state of which most held-out images were recognised; of equal ones the first. */
export interface BestState {
  readonly step: number;
  readonly samples: number;
  readonly correct: number;
}

/** More of the images; as many are no gain that a longer run would be worth. */
export const isBetter = ({ samples, correct }: Omit<BestState, "step">, best: BestState | null): boolean =>
  samples > 0 && (best === null || correct * best.samples > best.correct * samples);

/**
 * After as many validations without a better one as the recipe has patience for, or where a former state was better than the
 * last, the run ends at its best state: what came after it does not count. True where it did.
 */
export function endAtBest(turn: Turn): boolean {
  const { best, sinceBest, validated, settings } = turn.state;
  const patience = settings.validation?.patience ?? null;
  if (patience === null || best === null) return false;
  const last = validated >= settings.totalSteps && best.step < settings.totalSteps;
  if (sinceBest.length < patience && !last) return false;
  const share = `${((100 * best.correct) / best.samples).toFixed(2)} % of the held-out images`;
  const reason = `early stop, ${share} after step ${best.step} and no more in ${sinceBest.length} validations since`;
  say(turn, { type: "phase", phase: "finishing", detail: reason });
  turn.actions.push({ kind: "retreat", before: best.step, reason, keepsValidations: true });
  finish(turn, { kind: "done" });
  return true;
}
