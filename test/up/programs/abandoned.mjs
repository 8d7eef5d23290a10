// Starts two children as `up` does, one of which is frozen, tells their ids, and waits to be killed.
import { fileURLToPath } from "node:url";
import { Child } from "../../../dist/deploy/up/child.js";
import { Reaper } from "../../../dist/deploy/up/reaper.js";

const part = fileURLToPath(new URL("part.mjs", import.meta.url));
const reaper = new Reaper();
const child = (orders) =>
  new Child(
    { name: "part", command: () => [process.execPath, part], env: { FAKE: orders }, logFile: process.argv[2] },
    0,
    reaper,
  );
const watching = child("end-with-parent");
const frozen = child("end-with-parent");
const over = child("crash:0");
await over.ended;
setTimeout(() => {
  frozen.signal("SIGSTOP");
  process.stdout.write(`${JSON.stringify([watching.pid, frozen.pid])}\n`);
}, 500);
setInterval(() => {}, 1000);
