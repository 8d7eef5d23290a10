import type { Command } from "commander";
import picocolors from "picocolors";
import { examine, isHealthy } from "../setup/doctor.ts";

/** Adds `lockstep doctor`. */
export function registerDoctor(program: Command): void {
  program
    .command("doctor")
    .description("what this machine has and lacks, and how to mend each")
    .option("--json", "print one JSON object on stdout", false)
    .action(async ({ json }: { json: boolean }) => {
      const findings = await examine();
      const healthy = isHealthy(findings);
      if (json) process.stdout.write(`${JSON.stringify({ healthy, findings })}\n`);
      else {
        for (const { what, state, detail, mend } of findings) {
          const mark = state === "fine" ? picocolors.green("ok") : state === "optional" ? "--" : picocolors.red("no");
          process.stdout.write(`${mark}  ${what.padEnd(14)} ${detail}${mend === null ? "" : `; mend: ${mend}`}\n`);
        }
      }
      process.exitCode = healthy ? 0 : 3;
    });
}
