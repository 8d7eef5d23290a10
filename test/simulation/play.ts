import { scheduleOf } from "./guards.ts";
import { play } from "./schedule.ts";

const [from = 0, count = 1000, show = 0] = process.argv.slice(2).map(Number);
let bad = 0;
const started = Date.now();
for (let seed = from; seed < from + count; seed++) {
  const result = play(scheduleOf(seed));
  if (result.violation === null) continue;
  bad += 1;
  if (bad <= 5) console.log(`seed ${seed}: ${result.violation}`);
  if (show) {
    console.log(result.trace.slice(-show).join("\n"));
    break;
  }
}
console.log(`${count} schedules, ${bad} broken, ${((Date.now() - started) / 1000).toFixed(1)} s`);
