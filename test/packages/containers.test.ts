import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { docker, whyNoDocker } from "../monitoring/docker.ts";
import { fileOf } from "../monitoring/names.ts";
import { SMALL_SET } from "../up/runs.ts";

/**
 * The CPU image, built where LOCKSTEP_IMAGE names none, in three containers on a network of their own: a coordinator and two
 * workers, which join by its link and fetch their images from it.
 */
describe.skipIf(!docker)(`two workers in containers${whyNoDocker}`, () => {
  let data: string;
  const stops: (() => Promise<unknown>)[] = [];
  beforeAll(async () => {
    data = mkdtempSync(join(tmpdir(), "lockstep-containers-"));
    await writeSynthetic(data, SMALL_SET);
  });
  afterAll(async () => {
    for (const stop of stops.reverse()) await stop();
    rmSync(data, { recursive: true, force: true });
  });

  it("train over mutual TLS, as nobody in particular, and end by themselves", { timeout: 3_600_000 }, async () => {
    const { GenericContainer, Network, Wait } = await import("testcontainers");
    const image = process.env.LOCKSTEP_IMAGE ?? "lockstep:test-cpu";
    if (process.env.LOCKSTEP_IMAGE === undefined)
      await GenericContainer.fromDockerfile(fileOf("."), "deploy/images/Dockerfile")
        .withTarget("cpu")
        .build(image, { deleteOnExit: false });
    const network = await new Network().start();
    stops.push(() => network.stop());
    const container = () =>
      new GenericContainer(image)
        .withNetwork(network)
        .withDroppedCapabilities("ALL")
        .withSecurityOpt("no-new-privileges")
        .withStartupTimeout(300_000);

    let said = "";
    const run = ["--out", "/var/lib/lockstep/runs/run", "--share", "/var/lib/lockstep/share"];
    const listen = ["--listen", "0.0.0.0", "--advertise", "coordinator", "--ports", "7400-7419"];
    const train = ["--recipe", "quick", "--batch", "40", "--steps", "2", "--no-eval", "--json"];
    const coordinator = await container()
      .withNetworkAliases("coordinator")
      .withCopyDirectoriesToContainer([{ source: data, target: "/data" }])
      .withCommand([
        ...["up", "--continue", ...run, ...listen, "--http", "0.0.0.0:7430"],
        ...["--no-local-workers", "--workers", "2", "--data", "/data", ...train],
      ])
      .withLogConsumer((stream) => {
        stream.on("data", (text) => {
          said += text;
        });
      })
      .withWaitStrategy(Wait.forHealthCheck())
      .start();
    stops.push(() => coordinator.stop());
    expect((await coordinator.exec(["id", "-u"])).output.trim()).toBe("10001");
    const join_ = (await coordinator.exec(["cat", "/var/lib/lockstep/share/join"])).output.trim();
    expect(join_).toMatch(/^lockstep:\/\/coordinator:7401\/ls1-/);

    // Each of them is there until the run lets it go, with exit code 0.
    const worker = () =>
      container()
        .withEnvironment({ LOCKSTEP_JOIN: join_ })
        .withCommand(["worker", "--ports", "7400-7419", "--http", "0.0.0.0:7430"])
        .withWaitStrategy(Wait.forOneShotStartup())
        .start();
    for (const ended of await Promise.all([worker(), worker()])) stops.push(() => ended.stop());

    const summary = () => said.split("\n").findLast((line) => line.includes('"type":"summary"'));
    await expect.poll(summary, { timeout: 120_000, interval: 200 }).toBeDefined();
    const line = summary()!;
    expect(JSON.parse(line.slice(line.indexOf("{")))).toMatchObject({
      ...{ outcome: "done", steps: 2, workers: 2, failuresSurvived: 0 },
      weightsSha256: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
  });
});
