import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { onPath } from "../../../deploy/up/nats-program.ts";
import { type AlertResult, playAlerts } from "./play.ts";
import { containedPrometheus, nativePrometheus } from "./prometheus.ts";

/**
 * A death, a freeze, a slow worker and a flipped bit in a real run; each must raise its alert in a real Prometheus, name the right
 * worker, and end:
 *
 *     npm run alerts -- [--factor 6] [--container]
 *
 * The rules are the shipped ones, with all time windows divided by the factor. Exits with 1 where an alert fails.
 */
const { values } = parseArgs({
  options: { factor: { type: "string", default: "6" }, container: { type: "boolean", default: false } },
});
const factor = Number(values.factor);
const program = onPath("prometheus");
if (!values.container && program === null) {
  process.stderr.write("Prometheus is not installed: apt install prometheus, or --container where Docker is.\n");
  process.exit(3);
}
const directory = mkdtempSync(join(tmpdir(), "lockstep-alerts-"));
const interrupted = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => interrupted.abort());
const say = (text: string) => process.stdout.write(`${text}\n`);

const row = ({ case: { fault, alert }, named, raised, cleared, others }: AlertResult) =>
  `| ${fault} | ${alert} | ${named.join(", ")} | ${raised.toFixed(1)} s | ${cleared.toFixed(1)} s | ${others.join(", ")} |`;

say(`Time windows of the rules divided by ${factor}; scraped and evaluated every second; three workers.\n`);
say("| fault | alert | worker named | raised after | cleared after | also fired meanwhile |");
say("|---|---|---|---:|---:|---|");
try {
  const prometheus = values.container ? containedPrometheus : nativePrometheus(program!);
  await playAlerts({
    directory,
    prometheus,
    factor,
    signal: interrupted.signal,
    onResult: (result) => say(row(result)),
  });
  say('\n"Cleared after" counts from the thaw and from the end of the slowness; a death and a flip are over at once.');
  rmSync(directory, { recursive: true, force: true });
  process.exit(0);
} catch (error) {
  say(`\nFAILED: ${(error as Error).message}\nIts files: ${directory}`);
  process.exit(1);
}
