import {
  COORDINATOR_FAULTS,
  COORDINATOR_MOMENTS,
  type Fault,
  faultText,
  parseFault,
  suitsCoordinator,
  suitsWorker,
  WORKER_FAULTS,
  WORKER_MOMENTS,
} from "../../shared/faults/fault.ts";

/** One fault of one process at one moment of a real run. As text, for example "worker-1/kill@update". */
export interface Cell {
  /**
   * A worker's name, `first` for the one that reports and is asked for snapshots, `all` workers, `coordinator`, or `rival`:
   * the coordinator again, and while it has the fault a second one takes over the run's directory.
   */
  readonly target: string;
  readonly fault: Fault;
}

export const cellText = ({ target, fault }: Cell): string => `${target}/${faultText(fault)}`;

/** @throws Error for a text that is no cell */
export function parseCell(text: string): Cell {
  const [target = "", rest = ""] = text.split("/");
  const fault = parseFault(rest);
  const suits = target === "coordinator" || target === "rival" ? suitsCoordinator : suitsWorker;
  if (fault === null || !/^(worker-\d+|first|coordinator|rival|all)$/.test(target) || !suits(fault))
    throw new Error(`"${text}" is no cell: an example is worker-1/kill@update`);
  return { target, fault };
}

/** Long enough to be evicted for silence. */
const FREEZE = 3000;
/** These end with the run, so that a run has room for one of them. */
const AT_THE_END: readonly unknown[] = ["last", "rest"];

export const atTheEnd = ({ fault }: Cell): boolean => AT_THE_END.includes(fault.moment);

/** A slow worker is no fault that heals; test/cluster/elastic.test.ts has it. */
const FAULTS = Object.keys(WORKER_FAULTS).filter((name) => name !== "slow");

/** Every fault at every moment. */
export function allCells(): Cell[] {
  const cell = (target: string, name: string, moment: string) => {
    const millis = name === "freeze" ? `:${FREEZE}` : "";
    return parseCell(`${target}/${name}${millis}@${moment}`);
  };
  const workers = Object.keys(WORKER_MOMENTS).flatMap((moment) =>
    FAULTS.map((name) => cell(targetAt(moment), name, moment)),
  );
  const coordinators = Object.keys(COORDINATOR_MOMENTS).flatMap((moment) =>
    Object.keys(COORDINATOR_FAULTS).map((name) => cell("coordinator", name, moment)),
  );
  return [
    ...workers,
    ...coordinators,
    parseCell("all/kill"),
    parseCell("all/freeze:3000"),
    parseCell("rival/freeze:6000"),
    parseCell("rival/freeze:8000@step"),
  ];
}

/** Snapshots are asked of the first member, also when all rest; whoever joins is the last. */
const targetAt = (moment: string | null): string =>
  moment === "checkpoint" || moment === "rest" ? "first" : moment === "join" ? "worker-2" : "worker-1";

/** Does the process of such a cell end, or its membership? `false`: the run goes on with the same members. */
export function losesMember({ target, fault }: Cell): boolean {
  if (target === "coordinator" || target === "rival") return false;
  return ["kill", "abort", "exception", "thread-death", "freeze", "stuck"].includes(fault.name);
}
