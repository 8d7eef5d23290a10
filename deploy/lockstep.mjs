#!/usr/bin/env node
// `npx lockstep …`: packages and build first where they are missing or stale, then the command line.
import { prepare } from "./bootstrap.mjs";

try {
  await prepare();
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exit(3);
}
await import(new URL("../dist/deploy/cli/main.js", import.meta.url).href);
