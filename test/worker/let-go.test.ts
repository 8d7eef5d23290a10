import { spawn } from "node:child_process";
import { once } from "node:events";
import { expect, it, onTestFinished, vi } from "vitest";
import { builtProgram } from "../../deploy/up/built.ts";
import { splitAddress } from "../../shared/process/addresses.ts";
import { formatLink } from "../../shared/security/join-link.ts";
import { secured } from "../security/support.ts";

it.each([
  ["done", 0],
  ["stopped", 0],
  ["failed", 1],
])(
  "a worker of another machine whose run is %s ends with %d, by which a service manager knows what to do",
  async (reason, code) => {
    const { address, token, hellos, sessions } = await secured();
    const { host, port } = splitAddress(address)!;
    const worker = spawn(process.execPath, [builtProgram("worker/main.js")], {
      stdio: ["pipe", "ignore", "ignore"],
      env: { ...process.env, LOCKSTEP_JOIN: formatLink(host, port, token()) },
    });
    onTestFinished(() => void worker.kill("SIGKILL"));
    const ended = once(worker, "exit");
    await vi.waitFor(() => expect(hellos).toHaveLength(1), 60_000);
    sessions.send(hellos[0]!.incarnation, { kind: "release", reason });
    expect((await ended)[0]).toBe(code);
  },
  90_000,
);
