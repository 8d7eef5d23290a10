import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { onPath } from "../../deploy/up/nats-program.ts";
import { fileOf } from "../monitoring/names.ts";
import { linesOf, readJson, SMALL_SET, summaryOf } from "../up/runs.ts";
import { lockstep, processesOf, type Scratch, scratch, until } from "../up/support.ts";

const UNITS = ["lockstep-coordinator.service", "lockstep-worker@.service"].map((name) =>
  fileOf(`deploy/machines/${name}`),
);
const BATCH = fileOf("deploy/machines/lockstep.sbatch");
const settings = (unit: string) =>
  readFileSync(unit, "utf8")
    .split("\n")
    .filter((line) => /^\w+=/.test(line));

describe("systemd units", () => {
  it("stop in order and leave alone what another start does not mend", () => {
    for (const unit of UNITS) {
      const lines = settings(unit);
      expect(lines).toEqual(expect.arrayContaining(["Restart=on-failure", "RestartPreventExitStatus=2 3"]));
      // Lockstep hands a signal on itself: two are "at once".
      expect(lines).toEqual(expect.arrayContaining(["KillMode=mixed", "KillSignal=SIGTERM"]));
    }
    expect(settings(UNITS[0]!)).toContain("SuccessExitStatus=130");
  });

  const analyze = onPath("systemd-analyze");
  it.skipIf(analyze === null)(`are sound${analyze === null ? " (skipped: no systemd-analyze)" : ""}`, () => {
    const verify = spawnSync(analyze!, ["verify", ...UNITS], { encoding: "utf8" });
    expect(verify.stderr).toBe("");
    expect(verify.status).toBe(0);
    for (const unit of UNITS) {
      // In tenths: what systemd calls "OK" is below 5.
      const exposure = spawnSync(analyze!, ["security", "--offline=yes", "--threshold=20", unit], { encoding: "utf8" });
      expect(exposure.status, exposure.stdout).toBe(0);
    }
  });
});

describe("the Slurm job", () => {
  let place: Scratch;
  beforeAll(async () => {
    place = scratch();
    await writeSynthetic(join(place.path, "data"), SMALL_SET);
  });
  afterAll(() => place[Symbol.dispose]());

  it("is sound shell", () => {
    const scripts = [
      BATCH,
      ...["slurm/srun", "slurm/scontrol", "stand-in.sh"].map((name) => fileOf(`test/packages/${name}`)),
    ];
    for (const script of scripts) expect(spawnSync("bash", ["-n", script], { encoding: "utf8" }).stderr).toBe("");
    const shellcheck = onPath("shellcheck");
    if (shellcheck !== null) expect(spawnSync(shellcheck, scripts, { encoding: "utf8" }).stdout).toBe("");
  });

  it("stops with a checkpoint at Slurm's warning, is queued again, and goes on to its end", {
    timeout: 240_000,
  }, async () => {
    const out = join(place.path, "run");
    const asked = join(place.path, "asked");
    const train = (epochs = 6) => [
      ...["--data", join(place.path, "data"), "--recipe", "quick", "--batch", "40", "--epochs", String(epochs)],
      ...["--no-eval", "--no-nats"],
    ];
    const job = () => {
      const env = {
        ...process.env,
        PATH: `${fileOf("test/packages/slurm")}:${process.env.PATH}`,
        SLURM_JOB_ID: "17",
        SLURM_JOB_NUM_NODES: "2",
        SCONTROL_ASKED: asked,
        LOCKSTEP_HOME: fileOf("."),
        LOCKSTEP_RUN: out,
        LOCKSTEP_DEVICES: "cpu",
        LOCKSTEP_PORTS: "20000-60000",
        LOCKSTEP_LISTEN: "127.0.0.1",
        LOCKSTEP_ADVERTISE: "127.0.0.1",
      };
      const child = spawn("bash", [BATCH, ...train(), "--tls", "always"], { env, stdio: ["ignore", "pipe", "pipe"] });
      let said = "";
      for (const stream of [child.stdout, child.stderr])
        stream.on("data", (text) => {
          said += text;
        });
      const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
      return { ended, running: () => child.exitCode === null, said: () => said, warn: () => child.kill("SIGTERM") };
    };

    const first = job();
    const steps = join(out, "steps.ndjson");
    const hasSteps = () => existsSync(steps) && readFileSync(steps, "utf8").split("\n").length > 4;
    await until(() => hasSteps() || !first.running());
    expect(hasSteps(), first.said()).toBe(true);
    first.warn();
    expect(await first.ended, first.said()).toBe(130);
    expect(readFileSync(asked, "utf8")).toBe("requeue 17\n");
    expect(linesOf(steps).length).toBeLessThan(24);
    expect(readJson(out, "endpoints.json")).toMatchObject({ tls: true });
    expect(processesOf(out)).toEqual([]);

    // The same command with another recipe is another run.
    const other = lockstep(["up", "--continue", "--out", out, ...train(7)]);
    expect((await other.ended).code).toBe(2);
    expect(other.err()).toContain("LS_RECIPE_CHANGED");

    const second = job();
    expect(await second.ended, second.said()).toBe(0);
    const whole = summaryOf(out);
    expect(whole).toMatchObject({ outcome: "done", steps: 24, workers: 2, samplesPerEpochExact: true });
    expect(linesOf(steps)).toHaveLength(24);
    expect(readFileSync(asked, "utf8")).toBe("requeue 17\n");

    const third = lockstep(["up", "--continue", "--out", out, ...train()]);
    expect((await third.ended).code).toBe(0);
    expect(third.err()).toContain("has reached its end");

    // A run whose end was cut off gets its model, and is not trained again.
    writeFileSync(join(out, "summary.json"), JSON.stringify({ ...whole, weightsSha256: null }));
    rmSync(join(out, "model"), { recursive: true });
    const fourth = lockstep(["up", "--continue", "--out", out, ...train()]);
    expect((await fourth.ended).code, fourth.err()).toBe(0);
    expect(existsSync(join(out, "model", "model.json"))).toBe(true);
    expect(summaryOf(out)).toEqual(whole);
    expect(processesOf(out)).toEqual([]);
  });
});
