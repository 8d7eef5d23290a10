#!/usr/bin/env node
// `lockstep-health [URL]`: is the Lockstep process of this container well? Exit code 0 or 1, for health checks of all
// kinds; nothing but Node. A container asks itself: only a status comes back, whoever's certificate it is.
import { request as plain } from "node:http";
import { request as secured } from "node:https";

const url = new URL(process.argv[2] ?? process.env.LOCKSTEP_HEALTH ?? "https://127.0.0.1:7430/healthz");
const request = url.protocol === "https:" ? secured : plain;
const say = (text) => process.stdout.write(`${text}\n`);
const call = request(url, { rejectUnauthorized: false, timeout: 3000 }, (reply) => {
  reply.resume();
  say(`${url.href}: ${reply.statusCode}`);
  process.exitCode = reply.statusCode === 200 ? 0 : 1;
});
call.on("timeout", () => call.destroy(new Error("no answer in 3 s")));
call.on("error", (error) => {
  say(`${url.href}: ${error.message}`);
  process.exitCode = 1;
});
call.end();
