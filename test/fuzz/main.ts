import { parseArgs } from "node:util";
import { DECODERS } from "./decoders.ts";
import { play } from "./play.ts";

/** `npm run fuzz -- --seconds 60 --seed 1`: every decoder in turn, and what came of it. Exit code 1 with findings. */
const { values } = parseArgs({
  options: { seconds: { type: "string", default: "60" }, seed: { type: "string", default: "1" } },
});
const share = (Number(values.seconds) * 1000) / DECODERS.length;
let found = 0;
process.stdout.write(`${"decoder".padEnd(22)} ${"executions".padStart(10)} ${"refused".padStart(9)} findings\n`);
for (const decoder of DECODERS) {
  const until = performance.now() + share;
  const { name, executions, refused, findings } = play(decoder, Number(values.seed), () => performance.now() >= until);
  process.stdout.write(
    `${name.padEnd(22)} ${String(executions).padStart(10)} ${String(refused).padStart(9)} ${findings.length}\n`,
  );
  for (const { what, input } of findings) process.stdout.write(`  ${what}\n    ${input}\n`);
  found += findings.length;
}
process.exitCode = found === 0 ? 0 : 1;
