import { ATTACKS, type Attack, type Target } from "./attacks.ts";

/** All attacks against one run, by a process of their own: `node intruder.js TARGET` prints one JSON line for each. */
const target = JSON.parse(process.argv[2]!) as Target;

async function play({ name, expected, attempt }: Attack): Promise<void> {
  const outcome = await attempt(target).catch((error: unknown) => `threw ${(error as Error).message}`);
  process.stdout.write(`${JSON.stringify({ name, outcome, held: expected.test(outcome) })}\n`);
}

const lasting = ATTACKS.filter(({ lasts }) => lasts === true).map(play);
for (const attack of ATTACKS) if (attack.lasts !== true) await play(attack);
await Promise.all(lasting);
process.exit(0);
