import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { METRICS, PROCESS_METRICS } from "../../shared/metrics/table.ts";

/** A file of the repository. */
export const fileOf = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));

export const RULES = readFileSync(fileOf("deploy/prometheus/rules.yml"), "utf8");
/** Names of the rules that record. */
export const RECORDS = [...RULES.matchAll(/- record: (\S+)/g)].map((match) => match[1]!);
/** Names of the metrics that processes show. */
export const KNOWN: ReadonlySet<string> = new Set([...Object.keys(METRICS), ...Object.keys(PROCESS_METRICS)]);

/** Names of metrics in rules or queries, recording rules not among them. */
export const metricsIn = (text: string): readonly string[] =>
  text.match(/(?<![:\w])(?:lockstep|nodejs|process)_[a-z0-9_]+(?![:\w])/g) ?? [];
