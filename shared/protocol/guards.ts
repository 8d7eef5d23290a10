/**
 * The guards of the protocol, by name: each is one condition without which some schedule of faults breaks a promise. They
 * are listed so that the simulation can take them away one at a time and show that it would notice; processes never do.
 */
export const GUARDS = {
  // In a member.
  "refuse-lower-views": "a promise refuses every lower prepare and install",
  "close-before-answer": "the answer to prepare is sent after the commit word is closed and a running update has ended",
  "all-trailers": "a step commits only with a trailer of every member",
  "equal-states": "a step commits only if all level trailers carry one lineage and one state hash",
  "own-hash": "a state whose hash changed since its last update is not whole",
  "plan-in-all-trailers": "a planned view takes effect only after a step whose trailers all carried its id",
  "promise-drops-plan": "a promise drops the plan that was announced before it",
  "joiner-proves-itself": "a joiner's state counts only after it has shown the common hash",
  "left-streams-stay": "the streams of the view that was left stay open until the first commit in the next one",
  "entries-travel": "ledger entries that the coordinator lacks travel with the state to whoever pulls it",
  "early-trailers": "trailers of a step that has not begun here are kept",
  "current-view-only": "trailers and results of another view or step are not used",
  // In the coordinator.
  "durable-before-act": "a record is durable before the message that follows from it is sent",
  "one-term-rules": "a coordinator writes no record once a newer term exists",
  "wait-for-all": "an unplanned view waits for the answer or the loss of every member of installed and pending views",
  "highest-base": "the base is the highest step that a sound live state has reached",
  "majority-of-hashes": "where states of one step differ the majority is the base, else the checkpoint",
  "new-id-each-time": "every proposal has an id of its own",
  "checkpoint-is-final": "a snapshot becomes a checkpoint only if its step is final with that hash",
  "leavers-wait": "a leaver is released only after everybody has switched to the view without it",
  "silence-evicts": "silence for the heartbeat time-out evicts",
  "late-answers-evict": "a worker that is heard and does not answer within its time is evicted",
  "stuck-workers-rest": "a worker that has held up two views in a row is neither waited for nor part of the next one",
  "no-progress-evicts": "a step beyond its budget evicts the most accused member",
  "say-again": "after a redial both sides say again what may have been lost",
} as const;

export type Guard = keyof typeof GUARDS;
