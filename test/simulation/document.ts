import { GUARDS, type Guard } from "../../shared/protocol/guards.ts";
import { INVARIANTS, type Invariant } from "./invariants.ts";

/** A guard, the seed at which the simulation notices that it is gone, and what that seed breaks. */
export interface Catch {
  readonly guard: Guard;
  readonly seed: number;
  readonly invariant: Invariant;
}

/** README.md of this folder: the guards' table is data (found by search), everything else follows from the code. */
export function documentOf(catches: readonly Catch[]): string {
  const rows = catches.map(({ guard, seed, invariant }) => `| ${guard} | ${GUARDS[guard]} | ${seed} | ${invariant} |`);
  return `# The simulation

The coordinator's machine and the workers' machine, the same code that runs in the processes, in virtual time: a network that
delays, repeats and reorders, and random schedules of faults. A state is the digest of its history. A schedule is a function of its
seed (\`scheduleOf\` in guards.ts), so that a seed is all that is needed to see a failure again.

\`\`\`
node dist/test/simulation/play.js 0 1000000        a million schedules, from seed 0; build first: npm run build
node dist/test/simulation/play.js SEED 1 200       one schedule and the last 200 lines of what happened in it
node dist/test/simulation/guards.js --write        takes each guard away, finds a seed that notices, writes this file
\`\`\`

\`npm test\` plays the first 10,000 seeds and 500 more that fast-check draws; what fails prints the line that replays it.

What happens in a schedule, at any moment: workers are killed, frozen and thawed, cut off from each other or from the coordinator in
one or both directions, hung up on, slowed (shards move to others), stuck for good in a kernel or an update, told to leave one by one
or several at once down to nobody, started one by one or several at once beyond the number of shards (standbys); bits of their states
flip, also in the middle of an update; the coordinator dies, also between two of its durable records, or freezes while another takes
over and thaws later; copies of its messages arrive seconds late. Some schedules need three workers (\`--min-workers\`), some have three
shards for up to five workers.

## What must hold

| invariant | meaning |
|---|---|
${Object.entries(INVARIANTS)
  .map(([name, meaning]) => `| ${name} | ${meaning} |`)
  .join("\n")}

## Guards

Each guard of the protocol (shared/protocol/guards.ts) is taken away in turn; the simulation is evidence only if it notices.

| guard | what it says | seed | broken first |
|---|---|---:|---|
${rows.join("\n")}
`;
}

const ROW = /^\| ([\w-]+) \| .* \| (\d+) \| ([\w-]+) \|$/gm;

/** The rows of the guards' table. */
export const catchesIn = (document: string): Catch[] =>
  [...document.matchAll(ROW)].map(([, guard, seed, invariant]) => ({
    guard: guard as Guard,
    seed: Number(seed),
    invariant: invariant as Invariant,
  }));
