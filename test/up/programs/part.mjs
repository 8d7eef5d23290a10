// A stand-in for a process of a run: says that it has started, then does as FAKE says, until it is ended.
// FAKE: comma-separated: crash:CODE, say:TEXT, ignore-sigterm, crash-first:FILE, end-with-parent, leave-with:FILE
import { appendFileSync, existsSync, writeFileSync } from "node:fs";

const orders = (process.env.FAKE ?? "").split(",").map((order) => order.split(":"));
const order = (name) => orders.find(([known]) => known === name);

if (process.env.FAKE_LOG !== undefined)
  appendFileSync(process.env.FAKE_LOG, `start ${process.pid} ${process.argv.slice(2).join(" ")}\n`);
setInterval(() => {}, 1000);
if (order("ignore-sigterm")) process.on("SIGTERM", () => {});
if (order("end-with-parent")) process.stdin.on("end", () => process.exit(0)).resume();
if (order("leave-with")) setInterval(() => existsSync(order("leave-with")[1]) && process.exit(0), 20);
if (order("say")) process.stderr.write(`${order("say")[1]}\n`);
if (order("crash-first") && !existsSync(order("crash-first")[1])) {
  writeFileSync(order("crash-first")[1], "");
  process.exit(1);
}
if (order("crash")) process.exit(Number(order("crash")[1]));
