/**
 * Faults that can be done to a process on purpose, now or at a named moment: what tests use on their own processes and
 * `lockstep inject` on somebody's cluster.
 */
export const WORKER_FAULTS = {
  kill: "the process is killed, as the system does when memory runs out (SIGKILL)",
  abort: "the process aborts, as native code does when an allocation fails (SIGABRT)",
  exception: "an exception is thrown",
  "thread-death": "the compute thread ends",
  freeze: "the process stands still (SIGSTOP) for --millis; 0: until somebody thaws it",
  stuck: "the compute thread never returns from a kernel",
  slow: "every micro-batch takes longer, by --millis; 0 ends it",
  disconnect: "all its connections break",
  garbage: "it sends its peers bytes that are no chunk",
  "stale-view": "it sends its peers and the coordinator what belongs to a view that is over",
  "flip-weights": "a bit of its weights changes",
  "flip-slots": "a bit of its optimizer's state changes",
  "flip-partial": "a bit of a partial sum changes after its hash was taken",
  "flip-reduced": "a bit of the reduced gradient changes before the update",
} as const;

export const COORDINATOR_FAULTS = {
  kill: WORKER_FAULTS.kill,
  exception: WORKER_FAULTS.exception,
  freeze: WORKER_FAULTS.freeze,
  disconnect: WORKER_FAULTS.disconnect,
} as const;

/** When a fault happens to a worker, where it is not to happen at once. */
export const WORKER_MOMENTS = {
  forward: "before the forward pass of a micro-batch",
  backward: "after the backward pass of a micro-batch, before anything was hashed",
  exchange: "when its partial sums are on their way and its trailer is not",
  update: "inside the update of a committed step",
  checkpoint: "when it has offered a snapshot that is not pulled yet",
  change: "when it was asked to prepare for a view and has not answered",
  plan: "when it has heard of a planned view that has not begun",
  join: "when it has pulled the state and has not shown its hash",
  last: "as `exchange`, in the last step of the run",
  rest: "when the last update is done and the run is not closed yet",
} as const;

/** When a fault happens to the coordinator. */
export const COORDINATOR_MOMENTS = {
  step: "when a final step is recorded",
  change: "when an unplanned view is recorded and not installed",
  plan: "when a planned view is recorded and not announced",
  checkpoint: "when a checkpoint is written and not recorded",
  last: "when the run has ended and its end is not recorded",
} as const;

export type WorkerFault = keyof typeof WORKER_FAULTS;
export type WorkerMoment = keyof typeof WORKER_MOMENTS;
export type CoordinatorMoment = keyof typeof COORDINATOR_MOMENTS;

/** One fault for one process. `moment` null: at once. */
export interface Fault {
  readonly name: WorkerFault;
  /** freeze: milliseconds, 0 until somebody thaws it. slow: milliseconds for each micro-batch. 0 for the others. */
  readonly millis: number;
  readonly moment: WorkerMoment | CoordinatorMoment | null;
}

export const MOST_MILLIS = 3_600_000;

/** As text, for example "kill", "freeze:3000@update". */
export const faultText = ({ name, millis, moment }: Fault): string =>
  `${name}${millis === 0 ? "" : `:${millis}`}${moment === null ? "" : `@${moment}`}`;

/** The fault that such a text stands for; null where there is none of that name, number or moment. */
export function parseFault(text: string): Fault | null {
  const parts = /^([a-z-]+)(?::(\d{1,7}))?(?:@([a-z]+))?$/.exec(text);
  if (parts === null) return null;
  const [, name = "", millis = "0", moment = null] = parts;
  const known = Object.hasOwn(WORKER_FAULTS, name);
  const when = moment === null || Object.hasOwn(WORKER_MOMENTS, moment) || Object.hasOwn(COORDINATOR_MOMENTS, moment);
  if (!known || !when || Number(millis) > MOST_MILLIS) return null;
  return { name: name as WorkerFault, millis: Number(millis), moment: moment as Fault["moment"] };
}

/** Can this be done to a coordinator? */
export const suitsCoordinator = ({ name, moment }: Fault): boolean =>
  Object.hasOwn(COORDINATOR_FAULTS, name) && (moment === null || Object.hasOwn(COORDINATOR_MOMENTS, moment));

/** Can this be done to a worker? */
export const suitsWorker = ({ moment }: Fault): boolean => moment === null || Object.hasOwn(WORKER_MOMENTS, moment);
