import type { Command } from "commander";
import picocolors from "picocolors";
import { usage } from "../../shared/config/options.ts";
import { parsePorts } from "../../shared/process/addresses.ts";
import { certificateFiles, suppliedTrust } from "../../shared/security/supplied.ts";
import { examinePeer } from "../peer/examine-peer.ts";
import { examine, isHealthy } from "../setup/doctor.ts";
import type { Finding } from "../setup/finding.ts";
import { peerOf } from "./worker.ts";

interface DoctorCommandOptions {
  readonly json: boolean;
  readonly peer?: string;
  readonly listen?: string;
  readonly advertise?: string;
  readonly ports?: string;
  readonly tlsCa?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
}

/** Adds `lockstep doctor`. */
export function registerDoctor(program: Command): void {
  program
    .command("doctor")
    .description(
      "what this machine has and lacks, and how to mend each; or whether it and another one reach each other",
    )
    .option("--json", "print one JSON object on stdout", false)
    .option(
      "--peer <link|file|host:port>",
      "whether this machine reaches a run's coordinator, NATS and workers, and, with its link, is reached from there",
    )
    .option("--listen <address>", "with --peer: where a worker of this machine would listen")
    .option("--advertise <address>", "with --peer: what others would dial")
    .option("--ports <range>", "with --peer: the ports that a worker would have, such as 7400-7419")
    .option("--tls-ca <file>", "with --peer, --tls-cert and --tls-key: certificates of your own")
    .option("--tls-cert <file>", "this machine's certificate")
    .option("--tls-key <file>", "its key")
    .action(async (options: DoctorCommandOptions) => {
      const findings = options.peer === undefined ? await examine() : await examineThat(options.peer, options);
      const healthy = isHealthy(findings);
      const lines = options.json ? [JSON.stringify({ healthy, findings })] : findings.map(lineOf);
      // A dial without an answer would hold the process for as long as the system goes on trying: two minutes.
      process.stdout.write(`${lines.join("\n")}\n`, () => process.exit(healthy ? 0 : 3));
    });
}

function examineThat(peer: string, options: DoctorCommandOptions): Promise<Finding[]> {
  const { listen, advertise, ports, tlsCa, tlsCert, tlsKey } = options;
  const files = certificateFiles({ "tls-ca": tlsCa, "tls-cert": tlsCert, "tls-key": tlsKey });
  if (files !== null && listen === undefined)
    throw usage("With certificates of your own, --listen says where a worker would listen.");
  return examinePeer(peerOf(peer), {
    trust: files === null ? null : suppliedTrust(files),
    ...(listen !== undefined && { listen }),
    ...(advertise !== undefined && { advertise }),
    ...(ports !== undefined && { ports: parsePorts(ports) }),
  });
}

function lineOf({ what, state, detail, mend }: Finding): string {
  const mark = state === "fine" ? picocolors.green("ok") : state === "optional" ? "--" : picocolors.red("no");
  return `${mark}  ${what.padEnd(14)} ${detail}${mend === null ? "" : `; mend: ${mend}`}`;
}
