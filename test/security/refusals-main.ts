import { readEndpoints } from "../../deploy/up/probe.ts";

/** What a coordinator has refused so far, by its metrics: `node refusals-main.js RUN` prints codes and counts as JSON. */
const { http } = readEndpoints(process.argv[2]!)!;
const text = await (await fetch(`http://${http}/metrics`)).text();
const counts = [...text.matchAll(/^lockstep_refused_total\{code="(\w+)"\} (\d+)$/gm)];
const seen = counts.filter(([, , count]) => count !== "0").map(([, code, count]) => [code, Number(count)]);
process.stdout.write(`${JSON.stringify(Object.fromEntries(seen))}\n`);
