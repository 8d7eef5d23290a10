import type { Progress } from "../../shared/protocol/messages.ts";
import type { Incarnation, View } from "../../shared/protocol/view.ts";

/**
 * Whom to evict when a view makes no progress: the member that most others are owed bytes by. Members that are
 * themselves blocked owe only because of somebody else, so those that still compute (or say nothing) are accused first.
 * Ties fall on the later member of the view. Null where nobody is accused.
 */
export function mostAccused(view: View, progress: ReadonlyMap<Incarnation, Progress>): Incarnation | null {
  const count = new Map<Incarnation, number>();
  for (const member of view.members) {
    for (const peer of progress.get(member.incarnation)?.peers ?? []) {
      if (peer.owed > 0) count.set(peer.incarnation, (count.get(peer.incarnation) ?? 0) + 1);
    }
  }
  const busy = (incarnation: Incarnation) => {
    const phase = progress.get(incarnation)?.phase;
    return phase === undefined || phase === "compute" || phase === "loading" || phase === "waiting";
  };
  const accused = view.members.filter((member) => (count.get(member.incarnation) ?? 0) > 0);
  const stuck = view.members.filter((member) => busy(member.incarnation));
  const pool = accused.some((m) => busy(m.incarnation)) ? accused.filter((m) => busy(m.incarnation)) : accused;
  const choice = pool.length > 0 ? pool : stuck;
  let worst: Incarnation | null = null;
  let most = -1;
  for (const member of choice) {
    const votes = count.get(member.incarnation) ?? 0;
    if (votes >= most) [worst, most] = [member.incarnation, votes];
  }
  return worst;
}

/** How long a step of this view may take, in milliseconds, by its members' own speed. */
export function stepBudget(
  view: View,
  progress: ReadonlyMap<Incarnation, Progress>,
  timing: { readonly stepBudgetFactor: number; readonly stepBudgetFloor: number; readonly firstStepBudget: number },
): number {
  let slowest = 0;
  for (const member of view.members) {
    const shards = member.shards.to - member.shards.from;
    if (shards === 0) continue;
    const { shardMillis = 0, phase } = progress.get(member.incarnation) ?? {};
    // Images of shards that it has not had yet come as fast as the line lets them.
    if (shardMillis === 0 || phase === "loading") return timing.firstStepBudget;
    slowest = Math.max(slowest, shardMillis * shards);
  }
  return Math.max(timing.stepBudgetFloor, timing.stepBudgetFactor * slowest);
}
