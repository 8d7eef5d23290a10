import { scheduleOf } from "./guards.ts";
import { play } from "./schedule.ts";

/** play.js FROM COUNT [LINES]: how many of these schedules break a promise; of a single one, what happened last. */
const [from = 0, count = 1000, lines = 0] = process.argv.slice(2).map(Number);
let broken = 0;
const started = Date.now();
for (let seed = from; seed < from + count; seed++) {
  const { violation, trace } = play(scheduleOf(seed), { tracing: lines > 0 });
  if (violation !== null) broken += 1;
  if (violation !== null && broken <= 5) console.log(`seed ${seed}: ${violation}`);
  if (lines > 0 && (violation !== null || count === 1)) {
    console.log(trace.slice(-lines).join("\n"));
    break;
  }
}
console.log(`${count} schedules, ${broken} broken, ${((Date.now() - started) / 1000).toFixed(1)} s`);
process.exitCode = broken === 0 ? 0 : 1;
