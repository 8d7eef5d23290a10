import { Probe, readEndpoints } from "../../deploy/up/probe.ts";
import { layOut } from "./target.ts";

/** Prepares a run for an attack, as its owner on its host: `node target-main.js RUN` prints the intruder's argument. */
const directory = process.argv[2]!;
const probe = Probe.ofDirectory(directory, null);
try {
  const target = await layOut(probe, readEndpoints(directory)!);
  process.stdout.write(`${JSON.stringify(target)}\n`);
} finally {
  probe.close();
}
process.exit(0);
