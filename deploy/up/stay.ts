import { Interrupts } from "./interrupts.ts";

/** A timer holds the process; it has nothing to do. */
const HOUR = 3_600_000;

/**
 * Stays until somebody ends this process, where whoever keeps it would only start it again: in a cluster the run's files can be
 * fetched as long as there is a process beside them.
 */
export async function stay(note: (text: string) => void): Promise<void> {
  const interrupts = new Interrupts();
  const idle = setInterval(() => {}, HOUR);
  note("The run is over. This process stays, so that its files can be fetched, until it is told to end.");
  const { signal } = interrupts.first;
  await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
  clearInterval(idle);
  interrupts.close();
}
