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
  maxWait: 600_000,
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
