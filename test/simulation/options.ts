import type { MachineState } from "../../coordinator/machine/state.ts";
import type { Guard } from "../../shared/protocol/guards.ts";

export const TIMING = {
  heartbeatInterval: 250,
  heartbeatTimeout: 1500,
  redialFirst: 100,
  redialMax: 1000,
  levelTimeout: 5000,
  stepBudgetFactor: 8,
  stepBudgetFloor: 3000,
  firstStepBudget: 4000,
  grace: 6000,
  answerTimeout: 5000,
  checkpointTimeout: 10_000,
  leaveTimeout: 20_000,
  quarantineFirst: 500,
  quarantineMax: 60_000,
  slowRetry: 3000,
  sayAgain: 10_000,
  maxWait: 10_000_000,
};

/** How often a coordinator looks for a newer term while it has nothing to record. */
export const RULING_MILLIS = 500;

export interface SimCoordinator {
  readonly term: number;
  readonly machine: MachineState;
  alive: boolean;
  frozen: boolean;
  /** It has fallen back to a checkpoint and installed no view since. */
  fellBack: boolean;
  readonly thawQueue: (() => void)[];
}

export interface WorldOptions {
  readonly seed: number;
  readonly workers: number;
  readonly minWorkers: number;
  readonly shards: number;
  readonly totalSteps: number;
  readonly timing?: Partial<typeof TIMING>;
  /** Steps between states that are validated; missing without validation. */
  readonly validateEvery?: number;
  /** The run may end at its best state, though not before its last step. */
  readonly patient?: boolean;
  /** Workers keep no state for validation. */
  readonly forgetful?: boolean;
  /** Keeps what happens, a line each; off where many schedules are played. */
  readonly tracing?: boolean;
  /** Guards of the protocol that are taken away, to show that the simulation notices. */
  readonly without?: ReadonlySet<Guard>;
}
