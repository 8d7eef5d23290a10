import { ROUNDS } from "./attacks.ts";
import type { Attack, Outcome, Target } from "./attempt.ts";

/**
 * Attacks against one run, by a process of their own: `node intruder.js TARGET [quick]` prints one JSON line for each; quick:
 * without those that take their time.
 */
const target = JSON.parse(process.argv[2]!) as Target;
const quick = process.argv[3] === "quick";

async function play({ name, expected, attempt }: Attack): Promise<void> {
  const outcome = await attempt(target).catch((error: unknown) => `threw ${(error as Error).message}`);
  const line: Outcome = { name, outcome, held: expected.test(outcome) };
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

for (const attacks of ROUNDS) {
  const lasting = quick ? [] : attacks.filter(({ lasts }) => lasts === true).map(play);
  for (const attack of attacks) if (attack.lasts !== true) await play(attack);
  await Promise.all(lasting);
}
process.exit(0);
