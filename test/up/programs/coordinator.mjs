// A stand-in for the coordinator: the real protocol of status and control, no training.
// FAKE_COORDINATOR: done:POLLS (ends well after so many questions), crash:POLLS (once, if there is no file crashed),
// fail, mute (no summary)
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const proto = fileURLToPath(new URL("../../../proto/lockstep.proto", import.meta.url));
const { Coordinator } = grpc.loadPackageDefinition(loadSync(proto, { defaults: true })).lockstep.v1;
const args = process.argv.slice(2);
const run = args[args.indexOf("--run") + 1];
const starts = args.includes("--start");
const [order, count] = (process.env.FAKE_COORDINATOR ?? "done:2").split(":");
let polls = 0;

const end = (summary, code) => {
  if (summary !== null) writeFileSync(join(run, "summary.json"), JSON.stringify({ run: "fake", steps: 3, ...summary }));
  setTimeout(() => process.exit(code), 20);
};

const server = new grpc.Server();
server.addService(Coordinator.service, {
  getStatus: (_call, callback) => {
    polls += 1;
    const status = {
      run: "fake",
      term: 1,
      phase: "running",
      step: polls,
      steps: 9,
      stepsPerEpoch: 3,
      messages: [{ time: "1", text: `starts ${starts}` }],
    };
    callback(null, { json: JSON.stringify(status) });
    if (order === "crash" && polls >= Number(count) && !existsSync(join(run, "crashed"))) {
      writeFileSync(join(run, "crashed"), "");
      process.kill(process.pid, "SIGKILL");
    }
    if ((order === "done" || order === "crash") && polls >= Number(count)) end({ outcome: "done" }, 0);
    if (order === "fail") end({ outcome: "failed", code: "LS_FAKE", message: "It did not work." }, 1);
    if (order === "mute") end(null, 0);
  },
  control: (call, callback) => {
    callback(null, { ok: true, message: "" });
    end({ outcome: "stopped", reason: call.request.detail }, 0);
  },
});
server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  writeFileSync(join(run, "endpoints.json"), JSON.stringify({ coordinator: `127.0.0.1:${port}` }));
});
