/**
 * Time-outs of a run, in milliseconds, and how they must relate. A relation that does not hold makes the cluster evict
 * healthy workers or wait for dead ones, so that a config which breaks one is refused.
 */
export interface TimingValues {
  readonly heartbeatInterval: number;
  readonly heartbeatTimeout: number;
  readonly redialFirst: number;
  readonly redialMax: number;
  readonly levelTimeout: number;
  readonly stepBudgetFactor: number;
  readonly stepBudgetFloor: number;
  readonly firstStepBudget: number;
  readonly grace: number;
  readonly answerTimeout: number;
  readonly checkpointTimeout: number;
  readonly leaveTimeout: number;
  readonly quarantineFirst: number;
  readonly quarantineMax: number;
  readonly slowRetry: number;
  readonly sayAgain: number;
  readonly maxWait: number;
}

export const DEFAULT_TIMING: TimingValues = {
  heartbeatInterval: 250,
  heartbeatTimeout: 1500,
  redialFirst: 100,
  redialMax: 1000,
  levelTimeout: 10_000,
  stepBudgetFactor: 8,
  stepBudgetFloor: 12_000,
  firstStepBudget: 90_000,
  grace: 6000,
  answerTimeout: 10_000,
  checkpointTimeout: 120_000,
  leaveTimeout: 30_000,
  quarantineFirst: 500,
  quarantineMax: 300_000,
  slowRetry: 60_000,
  sayAgain: 10_000,
  maxWait: 600_000,
};

/** What each time-out bounds. */
export const TIMING_MEANINGS: Readonly<Record<keyof TimingValues, string>> = {
  heartbeatInterval: "between two heartbeats, in both directions",
  heartbeatTimeout: "silence of a worker towards the coordinator that evicts it",
  redialFirst: "first pause before a closed stream is dialled again",
  redialMax: "longest such pause",
  levelTimeout: "pull of the state by a joiner or laggard; the others hold their update back that long",
  stepBudgetFactor: "not a time: how many times its slowest member's own shards a step may take",
  stepBudgetFloor: "least budget of a step before its most accused member is evicted",
  firstStepBudget:
    "budget of a step in which a member was not measured yet or fetches images; loading a worker, a checkpoint, a prediction",
  grace: "nobody is evicted while all are silent at once; a joiner that did not get level waits that long",
  answerTimeout: "a worker that is heard has to close its commit word and answer a prepare",
  checkpointTimeout: "a member that was asked for a snapshot has to hold it; then the next one is asked",
  leaveTimeout: "the last worker that was asked to leave waits for its state to become a checkpoint",
  quarantineFirst: "an evicted worker stays out after its first eviction, twice as long after each further one",
  quarantineMax: "and at most",
  slowRetry: "rest of a worker without shards after which it is taken to be twice as fast",
  sayAgain: "a run that waits says for whom, again",
  maxWait: "a run without enough workers or without a usable state waits before it ends",
};

interface Relation {
  readonly larger: keyof TimingValues;
  /** `larger` must be at least this many times `smaller`. */
  readonly times: number;
  readonly smaller: keyof TimingValues;
  readonly why: string;
}

/** Which time-out must exceed which, and why. */
export const TIMING_RELATIONS: readonly Relation[] = [
  {
    larger: "heartbeatTimeout",
    times: 3,
    smaller: "heartbeatInterval",
    why: "a late heartbeat or two must not evict a worker",
  },
  {
    larger: "redialMax",
    times: 1,
    smaller: "redialFirst",
    why: "pauses between redials grow from the first to the longest",
  },
  {
    larger: "heartbeatTimeout",
    times: 1,
    smaller: "redialMax",
    why: "a worker must redial before its silence evicts it",
  },
  {
    larger: "grace",
    times: 2,
    smaller: "heartbeatTimeout",
    why: "after a take-over every worker needs the time to redial and to be heard",
  },
  {
    larger: "stepBudgetFloor",
    times: 1,
    smaller: "levelTimeout",
    why: "members hold their update back for a joiner that long, which is no lack of progress",
  },
  {
    larger: "stepBudgetFloor",
    times: 2,
    smaller: "heartbeatTimeout",
    why: "silence is better evidence than a slow step and has to speak first",
  },
  {
    larger: "firstStepBudget",
    times: 1,
    smaller: "stepBudgetFloor",
    why: "the first step includes warm-up",
  },
  {
    larger: "answerTimeout",
    times: 2,
    smaller: "heartbeatTimeout",
    why: "silence is better evidence than a late answer and has to speak first",
  },
  {
    larger: "checkpointTimeout",
    times: 1,
    smaller: "stepBudgetFloor",
    why: "a snapshot is taken after the step under way",
  },
  {
    larger: "quarantineMax",
    times: 1,
    smaller: "quarantineFirst",
    why: "the time until an evicted worker may come back grows from the first to the longest",
  },
  {
    larger: "slowRetry",
    times: 1,
    smaller: "stepBudgetFloor",
    why: "a worker that was found slow must not hold the others up again within a step or two",
  },
  {
    larger: "sayAgain",
    times: 1,
    smaller: "heartbeatTimeout",
    why: "most waits end within a time-out, and those that do not are told at a bounded rate",
  },
  { larger: "maxWait", times: 1, smaller: "sayAgain", why: "a run says for whom it waits before it gives up" },
  {
    larger: "maxWait",
    times: 1,
    smaller: "answerTimeout",
    why: "whoever does not answer is let go before all give up",
  },
  { larger: "maxWait", times: 1, smaller: "firstStepBudget", why: "workers that are still loading are worth the wait" },
  { larger: "maxWait", times: 1, smaller: "grace", why: "a run must not give up while nobody may be evicted" },
];

/** One sentence for each relation that the values break. */
export function brokenRelations(timing: TimingValues): string[] {
  return TIMING_RELATIONS.filter(({ larger, times, smaller }) => timing[larger] < times * timing[smaller]).map(
    ({ larger, times, smaller, why }) => {
      const bound = times === 1 ? smaller : `${times} x ${smaller}`;
      return `${larger} (${timing[larger]} ms) must be at least ${bound} (${times * timing[smaller]} ms): ${why}`;
    },
  );
}
