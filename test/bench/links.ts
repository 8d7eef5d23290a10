import { loadavg } from "node:os";
import { parseArgs } from "node:util";
import { type Spread, spreadOf } from "../../worker/bench/spread.ts";
import type { WireFormat } from "../../worker/exchange/chunk.ts";
import { Network } from "../hosts/network.ts";
import { Hosts } from "./links/cluster.ts";
import { exchangedBytes, LINKS, type Link, linkLimitMillis } from "./links/link.ts";

/**
 * The exchange between hosts with links of their own (network namespaces and tc, as root), in steps that sleep where a worker
 * computes, so that the links are measured and not this machine's cores:
 * `npm run bench:links [-- --hosts 2,4 --links 10,1,0.1 --wires float32,bf16 --megabytes 44.7 --compute 100,400 --plain --json]`
 */
const { values } = parseArgs({
  options: {
    hosts: { type: "string", default: "2,4" },
    /** Gbit/s. */
    links: { type: "string", default: "10,1,0.1" },
    wires: { type: "string", default: "float32,bf16" },
    megabytes: { type: "string", default: "44.7" },
    /** Milliseconds of sleep a step, for each of --hosts. */
    compute: { type: "string", default: "100,400" },
    plain: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});

interface Row {
  readonly hosts: number;
  readonly link: string;
  readonly wire: WireFormat;
  readonly secured: boolean;
  /** Milliseconds: of a step, and of one that sleeps alone. */
  readonly step: Spread;
  readonly ceiling: number;
  /** What of a step is exchange that nothing hides. */
  readonly exposed: Spread;
  /** ceiling / step. */
  readonly ratio: number;
  /** The same if all of the exchange that can be hid behind computing: the links, or the computing, set the pace. */
  readonly ratioWithOverlap: number;
  /** The links' own time for these bytes, and what bare TCP needs for them here. */
  readonly limit: number;
  readonly bareTcp: Spread;
  /** Bytes that one host sends in a step. */
  readonly bytesSent: number;
  /** CPU time of the exchange at one host. */
  readonly cpu: Spread;
}

/** Of fast links; slow ones have fewer steps as well. */
const WARM_UP = 2;
const BARE_TRIES = 3;
const numbers = (text: string) => text.split(",").map(Number);

async function measure(hosts: number, link: Link, wire: WireFormat, compute: number): Promise<Row> {
  const network = Network.make(hosts, link.bitsPerSecond / 1000);
  try {
    return await measureOn(network, hosts, link, wire, compute);
  } finally {
    network.remove();
  }
}

async function measureOn(network: Network, hosts: number, link: Link, wire: WireFormat, compute: number): Promise<Row> {
  const bytes = Number(values.megabytes) * 1e6;
  const secured = !values.plain;
  const { delayMillis } = link;
  const members = await Hosts.start(network, { hosts, bytes, wire, secured, delayMillis });
  try {
    const slept = await members.sleep(5, compute);
    const warmUp = Math.min(WARM_UP, link.steps - 2);
    const trained = (await members.train(warmUp + link.steps, compute)).map((steps) => steps.slice(warmUp));
    const each = Array.from({ length: link.steps }, (_, step) => trained.map((steps) => steps[step]!));
    const slowest = (of: (step: (typeof each)[number][number]) => number) =>
      spreadOf(each.map((steps) => Math.max(...steps.map(of))));
    const bytesSent = spreadOf(trained.flatMap((steps) => steps.map((step) => step.bytesSent))).median;
    const bare: number[] = [];
    for (let n = 0; n < Math.min(BARE_TRIES, link.steps - 1); n++)
      bare.push(await members.raw(Math.ceil(bytesSent / (hosts - 1))));
    const ceiling = spreadOf(slept.flat()).median;
    const step = slowest(({ stepMillis }) => stepMillis);
    const limit = linkLimitMillis(link, bytesSent);
    return {
      ...{ hosts, link: link.name, wire, secured, step, ceiling, limit, bytesSent },
      exposed: slowest(({ millis }) => millis),
      ratio: ceiling / step.median,
      ratioWithOverlap: ceiling / Math.max(ceiling, limit),
      bareTcp: spreadOf(bare),
      cpu: spreadOf(trained.flatMap((steps) => steps.map(({ cpuMillis }) => cpuMillis))),
    };
  } finally {
    members.stop();
  }
}

const shown = ({ median, first, third }: Spread) => `${median.toFixed(0)} (${first.toFixed(0)} to ${third.toFixed(0)})`;

const HEADER = [
  "| hosts | link | wire | MB sent | step, ms | sleep alone | ratio | exposed, ms | link's limit | bare TCP | ratio if hidden | CPU, ms |",
  "|---:|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
].join("\n");

function line(row: Row): string {
  const { hosts, link, wire, bytesSent, step, ceiling, ratio, exposed, limit, bareTcp, ratioWithOverlap, cpu } = row;
  const cells = [hosts, link, wire, (bytesSent / 1e6).toFixed(1), shown(step), ceiling.toFixed(0), ratio.toFixed(3)];
  const more = [shown(exposed), limit.toFixed(0), shown(bareTcp), ratioWithOverlap.toFixed(3), cpu.median.toFixed(0)];
  return `| ${[...cells, ...more].join(" | ")} |`;
}

const hindrance = Network.hindrance();
if (hindrance !== null) {
  process.stderr.write(`Hosts with links of their own cannot be made here: ${hindrance}. Run this as root.\n`);
  process.exit(3);
}
const [hostCounts, rates, sleeps] = [numbers(values.hosts), numbers(values.links), numbers(values.compute)];
const links = LINKS.filter(({ bitsPerSecond }) => rates.includes(bitsPerSecond / 1e9));
if (!values.json) {
  const bytes = Number(values.megabytes) * 1e6;
  const volumes = hostCounts.map((n) => `${(exchangedBytes(n, bytes) / 1e6).toFixed(1)} MB at ${n} hosts`);
  process.stdout.write(`${values.megabytes} MB of gradients, ${values.plain ? "plain text" : "mutual TLS"}; `);
  process.stdout.write(`each host sends in float32 at least ${volumes.join(", ")}\n\n${HEADER}\n`);
}
for (const [i, hosts] of hostCounts.entries())
  for (const link of links)
    for (const wire of values.wires.split(",") as WireFormat[]) {
      const row = await measure(hosts, link, wire, sleeps[i] ?? sleeps.at(-1)!);
      process.stdout.write(`${values.json ? JSON.stringify({ ...row, load: loadavg()[0] }) : line(row)}\n`);
    }
if (!values.json)
  process.stdout.write(`\nMedians (quartiles) of the slowest host; load average ${loadavg()[0]!.toFixed(1)}.\n`);
process.exit(0);
