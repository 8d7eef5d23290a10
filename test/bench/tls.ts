import { type ChildProcess, fork } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { obtainDataDirectory } from "../../deploy/data/locations.ts";
import { memberClient } from "../../shared/rpc/clients.ts";
import { reach } from "../../shared/rpc/reach.ts";
import { bindingOf, channelOptions, grpc, listen, memberService } from "../../shared/rpc/service.ts";
import { Gate } from "../../shared/security/gate.ts";
import { type Credentials, Trust } from "../../shared/security/trust.ts";
import { spreadOf } from "../../worker/bench/spread.ts";
import { summaryOf, train } from "../up/runs.ts";

/**
 * What mutual TLS costs: `npm run bench:tls [-- --tries 3 --steps 12 --model resnet --batch 128 --wire --json]`. Training
 * throughput of secured runs and plain ones in turns, two workers on this machine; one stream of a gigabyte each way of sending
 * it; and connections, one after the other. `--wire`: without the runs.
 */
const { values } = parseArgs({
  options: {
    tries: { type: "string", default: "3" },
    steps: { type: "string", default: "12" },
    model: { type: "string", default: "resnet" },
    batch: { type: "string", default: "128" },
    data: { type: "string" },
    wire: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    serve: { type: "string" },
  },
});

const PIECE = Buffer.alloc(1 << 20, 1);
const PIECES = 1024;
const WINDOW = 16 << 20;
const CONNECTIONS = 200;
const MODES = ["plain", "tls"] as const;
type Mode = (typeof MODES)[number];
const INCARNATION = "aaaaaaaaaaaaaaaa";

/** The sending side, in a process of its own: says where it listens. */
async function serve(credentials: Credentials | null): Promise<void> {
  const server = new grpc.Server(channelOptions());
  server.addService(memberService, {
    exchange: () => {},
    pullEntries: (_call: object, callback: grpc.sendUnaryData<object>) => callback(null, {}),
    pullState: async (call: grpc.ServerWritableStream<object, Buffer>) => {
      for (let n = 0; n < PIECES; n++)
        if (!call.write(PIECE)) await new Promise<void>((resolve) => call.once("drain", () => resolve()));
      call.end();
    },
  });
  const gateOf = (trust: Trust) =>
    new Gate({ trust, members: server, strangers: null, isRevoked: () => false, onRefused: () => {} });
  const gate = credentials === null ? null : gateOf(new Trust(credentials));
  process.send!(await listen(server, bindingOf("127.0.0.1"), gate));
}

interface Transfer {
  readonly gigabytesPerSecond: number;
  readonly cpuSeconds: number;
}

/** One gigabyte down one stream, as a state is pulled. CPU time is the receiver's. */
async function pull(address: string, trust: Trust | null): Promise<Transfer> {
  const client = memberClient(address, { trust, incarnation: INCARNATION, window: WINDOW, ownConnection: true });
  const used = process.cpuUsage();
  const started = performance.now();
  let bytes = 0;
  const call = client.pullState({ run: "", step: 0, from: 0, to: 0, snapshot: false });
  for await (const piece of call as AsyncIterable<Buffer>) bytes += piece.length;
  client.close();
  const { user, system } = process.cpuUsage(used);
  return { gigabytesPerSecond: bytes / 1e6 / (performance.now() - started), cpuSeconds: (user + system) / 1e6 };
}

/** Milliseconds of one connection with a short call; CPU time is the dialling side's. */
async function dial(
  address: string,
  trust: Trust | null,
): Promise<{ readonly millis: number; readonly cpuMillis: number }> {
  const used = process.cpuUsage();
  const started = performance.now();
  for (let n = 0; n < CONNECTIONS; n++) {
    const failure = await reach(address, INCARNATION, trust);
    if (failure !== null) throw new Error(failure);
  }
  const { user, system } = process.cpuUsage(used);
  return { millis: (performance.now() - started) / CONNECTIONS, cpuMillis: (user + system) / 1000 / CONNECTIONS };
}

type Connection = Awaited<ReturnType<typeof dial>>;

async function bulk(
  tries: number,
): Promise<{ readonly transfers: Record<Mode, Transfer[]>; readonly connections: Record<Mode, Connection> }> {
  const { Authority } = await import("../../coordinator/security/authority.ts");
  const { authority } = await Authority.create("bench");
  const equipped = await authority.equip({ role: "worker", name: INCARNATION }, 3_600_000);
  const { certificate, key } = equipped;
  const credentials: Credentials = { authority: equipped.authority, certificate, key };
  const children: ChildProcess[] = [];
  const start = (serve: Credentials | null): Promise<string> => {
    const child = fork(fileURLToPath(import.meta.url), ["--serve", JSON.stringify(serve)]);
    children.push(child);
    return new Promise((resolve, reject) =>
      child.once("message", (text) => resolve(String(text))).once("exit", reject),
    );
  };
  const figures: Record<Mode, Transfer[]> = { plain: [], tls: [] };
  try {
    const addresses = { plain: await start(null), tls: await start(credentials) };
    const trusts = { plain: null, tls: new Trust(credentials) };
    for (let n = 0; n <= tries; n++)
      for (const mode of MODES) {
        const transfer = await pull(addresses[mode], trusts[mode]);
        if (n > 0) figures[mode].push(transfer); // The first one warms up.
      }
    const connections = { plain: await dial(addresses.plain, null), tls: await dial(addresses.tls, trusts.tls) };
    return { transfers: figures, connections };
  } finally {
    for (const child of children) child.kill();
  }
}

async function training(tries: number, directory: string): Promise<Record<Mode, number[]>> {
  const option = values.data ?? process.env.LOCKSTEP_DATA;
  const data = (
    await obtainDataDirectory({
      option,
      signal: new AbortController().signal,
      onProgress: () => {},
      onMessage: (text) => void process.stderr.write(`${text}\n`),
    })
  ).directory;
  const figures: Record<Mode, number[]> = { plain: [], tls: [] };
  const hashes = new Set<unknown>();
  for (let n = 0; n < tries; n++)
    for (const mode of n % 2 === 0 ? MODES : MODES.toReversed()) {
      const out = join(directory, `${mode}-${n}`);
      const length = ["--model", values.model, "--batch", values.batch, "--steps", values.steps];
      const run = train(data, out, 2, [...length, ...(mode === "tls" ? ["--tls", "always"] : [])]);
      if ((await run.ended).code !== 0) throw new Error(run.err());
      const { imagesPerSecond, stateSha256 } = summaryOf(out);
      hashes.add(stateSha256);
      figures[mode].push(Number(imagesPerSecond));
      process.stderr.write(`${mode.padEnd(5)} ${Number(imagesPerSecond).toFixed(1)} images/s\n`);
    }
  if (hashes.size !== 1) throw new Error("secured and plain runs end with different states");
  return figures;
}

const spread = (numbers: readonly number[], digits: number): string => {
  const { median, first, third } = spreadOf([...numbers]);
  return `${median.toFixed(digits)} (${first.toFixed(digits)} to ${third.toFixed(digits)})`;
};

async function main(): Promise<void> {
  const tries = Number(values.tries);
  const directory = mkdtempSync(join(tmpdir(), "lockstep-tls-"));
  try {
    const throughput = values.wire ? null : await training(tries, directory);
    const { transfers, connections } = await bulk(Math.max(3, tries));
    const rates = (mode: Mode) => transfers[mode].map(({ gigabytesPerSecond }) => gigabytesPerSecond);
    const cpu = (mode: Mode) => transfers[mode].map(({ cpuSeconds }) => cpuSeconds);
    const ratio = (a: readonly number[], b: readonly number[]) => spreadOf([...a]).median / spreadOf([...b]).median;
    const result = {
      trainingRatio: throughput === null ? null : ratio(throughput.tls, throughput.plain),
      bulkRatio: ratio(rates("tls"), rates("plain")),
      bulkCpuRatio: ratio(cpu("tls"), cpu("plain")),
      throughput,
      transfers,
      connections,
    };
    if (values.json) return void process.stdout.write(`${JSON.stringify(result)}\n`);
    const { plain, tls } = connections;
    const runs =
      throughput === null
        ? []
        : [
            `| training, images/s | ${spread(throughput.plain, 1)} | ${spread(throughput.tls, 1)} | ${result.trainingRatio!.toFixed(3)} |`,
          ];
    const rows = [
      `${values.model}, batch ${values.batch}, 2 workers, ${values.steps} steps, medians with quartiles of ${tries}`,
      "",
      "| | plain | mutual TLS | ratio |",
      "|---|---:|---:|---:|",
      ...runs,
      `| one stream, GB/s | ${spread(rates("plain"), 2)} | ${spread(rates("tls"), 2)} | ${result.bulkRatio.toFixed(3)} |`,
      `| CPU of its receiver, s/GB | ${spread(cpu("plain"), 2)} | ${spread(cpu("tls"), 2)} | ${result.bulkCpuRatio.toFixed(3)} |`,
      `| one connection, ms | ${plain.millis.toFixed(2)} | ${tls.millis.toFixed(2)} | ${(plain.millis / tls.millis).toFixed(3)} |`,
      `| CPU of whoever dials, ms | ${plain.cpuMillis.toFixed(2)} | ${tls.cpuMillis.toFixed(2)} | ${(plain.cpuMillis / tls.cpuMillis).toFixed(3)} |`,
    ];
    process.stdout.write(`${rows.join("\n")}\n`);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

if (values.serve === undefined) {
  await main();
  process.exit(0);
}
await serve(JSON.parse(values.serve) as Credentials | null);
