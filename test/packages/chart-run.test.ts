import { chmodSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { Authority } from "../../coordinator/security/authority.ts";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { linesOf, SMALL_SET, summaryOf } from "../up/runs.ts";
import { type Scratch, scratch } from "../up/support.ts";
import { find, helm, render, workload } from "./chart.ts";
import { hindrance, Pods } from "./pods.ts";

/** Half a minute of a quiet machine with two cores, so that it is asked for. */
const asked = process.env.LOCKSTEP_CHART_RUN !== undefined;
const why = !asked ? "LOCKSTEP_CHART_RUN is not set" : helm === null ? "helm is not installed" : hindrance();

let place: Scratch;
beforeAll(async () => {
  place = scratch();
  await writeSynthetic(join(place.path, "set"), SMALL_SET);
  chmodSync(join(place.path, "set"), 0o755);
});
afterAll(() => place[Symbol.dispose]());

/** Asks pages as Prometheus does, with what the chart's Secret gives it. */
const ASK = `
const [url, name, token, ca] = process.argv.slice(1);
require("https").get(url, { ca, servername: name, headers: token === "" ? {} : { authorization: "Bearer " + token } }, (reply) => {
  let body = ""; reply.on("data", (data) => (body += data)); reply.on("end", () => console.log(JSON.stringify({ status: reply.statusCode, body })));
});`;

/** Is there a way? */
const DIAL = `
const socket = require("net").connect({ host: process.argv[1], port: Number(process.argv[2]) });
socket.on("connect", () => process.exit(0)); socket.on("error", () => process.exit(1)); socket.setTimeout(2000, () => process.exit(1));`;

describe.skipIf(why !== null)(`the chart's pods, as processes${why === null ? "" : ` (skipped: ${why})`}`, () => {
  it("train, tell probes and Prometheus, drain on SIGTERM, go on after the coordinator's restart, and stay with their report", {
    timeout: 300_000,
  }, async () => {
    const objects = render({
      ...{
        "data.existingClaim": "set",
        "workers.env[0].name": "LOCKSTEP_SHARD_DELAY",
        "workers.env[0].value": "x-lockstep-workers-a:200",
      },
      ...{ "run.options.batch": 40, "run.options.steps": 48, "run.options.seed": 7, "run.options.shards": 4 },
      ...{ "run.place.evaluation.batch": 10, "run.place.evaluation.examined": 0 },
      // The slow worker makes sure that the run outlasts what is done to it; it keeps its shards.
      ...{ "run.place.balance.gain": 1, "run.place.balance.steps": 20 },
      ...{ "monitoring.scrapeConfig": true },
    });
    const [ruling, working] = (["coordinator", "workers"] as const).map(
      (part) => workload(objects, part).template.spec.containers[0],
    );
    const { stringData } = find(objects, "Secret", "x-lockstep-security");
    const pods = new Pods(objects, place.path, { set: join(place.path, "set") });
    onTestFinished(() => pods.remove());
    const out = join(pods.claim("state"), "run");
    const file = join(out, "steps.ndjson");
    const steps = () => (existsSync(file) ? readFileSync(file, "utf8").split("\n").length - 1 : 0);
    let coordinator = pods.start("coordinator", "x-lockstep-coordinator-0", 0);
    let stays = pods.start("workers", "x-lockstep-workers-a", 1);
    const leaves = pods.start("workers", "x-lockstep-workers-b", 2);
    await coordinator.until(() => steps() > 2);

    for (const probe of [ruling!.startupProbe, ruling!.readinessProbe, ruling!.livenessProbe])
      expect(coordinator.holds(probe, pods.address(0)), coordinator.said).toBe(true);
    for (const probe of [working!.startupProbe, working!.readinessProbe, working!.livenessProbe])
      expect(leaves.holds(probe, pods.address(2)), leaves.said).toBe(true);
    const ask = (url: string, name: string, token = stringData!["http-token"]!) => {
      const { stdout, stderr } = pods.at(3, [process.execPath, "-e", ASK, url, name, token, stringData!["ca.pem"]!]);
      if (stdout === "") throw new Error(stderr);
      return JSON.parse(stdout) as { status: number; body: string };
    };
    const targets = `https://${pods.address(0)}:7430/targets`;
    expect(ask(targets, "coordinator.lockstep", "").status).toBe(401);
    const [own, ...workers] = JSON.parse(ask(targets, "coordinator.lockstep").body) as {
      targets: string[];
      labels: object;
    }[];
    expect(own!.targets).toEqual(["x-lockstep-coordinator.lab.svc:7430"]);
    expect(workers).toMatchObject([
      { targets: [`${pods.address(1)}:7430`], labels: { worker: "x-lockstep-workers-a", host: "node-1" } },
      { targets: [`${pods.address(2)}:7430`], labels: { worker: "x-lockstep-workers-b", host: "node-2" } },
    ]);
    expect(ask(`https://${workers[1]!.targets[0]}/metrics`, "worker.lockstep").body).toContain("lockstep_images_total");

    // Whoever is neither of the run nor Prometheus gets nowhere, and the run's pods reach nobody else.
    const reaches = (node: number, to: number, port: number) =>
      pods.at(node, [process.execPath, "-e", DIAL, pods.address(to), String(port)]).status === 0;
    expect(reaches(3, 0, 7430)).toBe(true);
    for (const [node, to, port] of [
      ...([
        [4, 0, 7400],
        [4, 0, 7401],
        [4, 0, 7430],
        [4, 1, 7400],
        [4, 1, 7430],
        [3, 0, 7401],
        [3, 1, 7400],
      ] as const),
      ...([
        [0, 1, 7430],
        [1, 2, 7430],
        [1, 0, 7430],
        [0, 3, 7400],
        [1, 4, 443],
      ] as const),
    ])
      expect(reaches(node, to, port), `${node} to ${to}:${port}`).toBe(false);

    leaves.signal("SIGTERM");
    expect(await leaves.ended, leaves.said).toBe(0);
    expect(linesOf(out, "events.ndjson")).toContainEqual(
      expect.objectContaining({ type: "worker", name: "x-lockstep-workers-b", change: "left" }),
    );
    const status = coordinator.exec(["lockstep", "status", "/var/lib/lockstep/run"]);
    expect(status.stdout, status.stderr).toContain("x-lockstep-workers-a");

    // Killed, as its node may be: the worker keeps its state, and goes on by it.
    coordinator.signal("SIGKILL");
    await coordinator.ended;
    const before = steps();
    coordinator = pods.start("coordinator", "x-lockstep-coordinator-0", 0);
    await coordinator.until(() => steps() > before + 1);
    expect(stays.over, stays.said).toBe(false);

    coordinator.signal("SIGTERM");
    expect(await coordinator.ended, coordinator.said).toBe(130);
    expect(await stays.ended, stays.said).toBe(0);
    expect(steps()).toBeLessThan(48);

    coordinator = pods.start("coordinator", "x-lockstep-coordinator-0", 0);
    stays = pods.start("workers", "x-lockstep-workers-a", 1, "LOCKSTEP_SHARD_DELAY");
    expect(await stays.ended, stays.said).toBe(0);
    await coordinator.until(() => coordinator.said.includes("The run is over"));
    expect(summaryOf(out)).toMatchObject({
      outcome: "done",
      steps: 48,
      failuresSurvived: 0,
      samplesPerEpochExact: true,
    });
    expect(coordinator.holds(ruling!.livenessProbe, pods.address(0))).toBe(true);
    expect(coordinator.holds(ruling!.readinessProbe, pods.address(0))).toBe(false);
    const report = coordinator.exec([
      "tar",
      "-C",
      "/var/lib/lockstep/run",
      "-cf",
      "-",
      "report",
      "model",
      "summary.json",
    ]);
    expect(report.status, report.stderr).toBe(0);
    expect(report.stdout).toContain("report/report.html");
    expect(coordinator.exec(["touch", "/opt/lockstep/x"]).status).not.toBe(0);
    coordinator.signal("SIGTERM");
    expect(await coordinator.ended, coordinator.said).toBe(0);
  });

  it("do so with certificates of one's own, which name hosts, and with two workers in each pod", {
    timeout: 300_000,
  }, async () => {
    const { authority } = await Authority.create("of the house");
    const service = (name: string) => `${name}.lab.svc`;
    const secret = async (name: string, hosts: string[]) => {
      // Its role and name say nothing here; only its hosts do.
      const { certificate, key } = await authority.equip({ role: "nats", name, hosts }, 3_600_000);
      const stringData = { "ca.crt": authority.certificate, "tls.crt": certificate, "tls.key": key };
      return { apiVersion: "v1", kind: "Secret", metadata: { name }, stringData };
    };
    const objects = [
      ...render({
        ...{
          "security.certificates.coordinator": "a",
          "security.certificates.workers": "b",
          "workers.kind": "StatefulSet",
        },
        ...{ "data.existingClaim": "set", "run.options.batch": 40, "run.options.steps": 16, "run.options.shards": 4 },
        ...{ "run.options.eval": false, "run.options.seed": 7, "run.name": "own", "workers.devices": "cpu:2" },
      }),
      await secret("a", [service("x-lockstep-coordinator")]),
      await secret("b", [service("*.x-lockstep-workers")]),
    ];
    const pods = new Pods(objects, place.path, { set: join(place.path, "set") });
    onTestFinished(() => pods.remove());
    const coordinator = pods.start("coordinator", "x-lockstep-coordinator-0", 0);
    const workers = [0, 1].map((n) => pods.start("workers", `x-lockstep-workers-${n}`, n + 1));
    const [probed] = workload(objects, "workers").template.spec.containers;
    await workers[1]!.until(() => workers[1]!.holds(probed.readinessProbe, pods.address(2)));
    await coordinator.until(() => coordinator.said.includes("The run is over"));
    for (const worker of workers) expect(await worker.ended, worker.said).toBe(0);
    expect(summaryOf(join(pods.claim("state"), "own"))).toMatchObject({ outcome: "done", steps: 16, workers: 4 });
    coordinator.signal("SIGTERM");
    expect(await coordinator.ended, coordinator.said).toBe(0);
  });
});
