#!/usr/bin/env node
// `npx lockstep …`: packages and build first where they are missing or stale, then the command line.
import { earlyFindings, prepare } from "./bootstrap.mjs";

const doctor = process.argv[2] === "doctor";
const early = doctor ? earlyFindings() : [];
if (early.some(({ what, fine }) => !fine && (what === "npm packages" || what === "build"))) {
  // A doctor installs nothing: without packages and build this is all that can be said.
  if (process.argv.includes("--json")) {
    const findings = early.map(({ what, fine, detail, mend }) => ({
      what,
      state: fine ? "fine" : "missing",
      detail,
      mend: fine ? null : mend,
    }));
    process.stdout.write(`${JSON.stringify({ healthy: false, findings })}\n`);
  } else {
    for (const { what, fine, detail, mend } of early) {
      process.stdout.write(`${fine ? "ok" : "no"}  ${what.padEnd(14)} ${detail}${fine ? "" : `; mend: ${mend}`}\n`);
    }
    process.stdout.write("The rest can be examined once these are mended.\n");
  }
  process.exit(3);
}
/** The folder of `setup --from DIR`, which also stands for npm's registry. */
function packOf([command, ...args]) {
  const at = args.findIndex((arg) => arg === "--from" || arg.startsWith("--from="));
  if (command !== "setup" || at < 0) return null;
  return args[at].startsWith("--from=") ? args[at].slice("--from=".length) : (args[at + 1] ?? null);
}
try {
  if (!doctor) await prepare({ from: packOf(process.argv.slice(2)) });
} catch (error) {
  if (error.exitCode === undefined) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exit(error.exitCode);
}
await import(new URL("../dist/deploy/cli/main.js", import.meta.url).href);
