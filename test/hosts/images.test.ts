import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import type { StartedTestContainer } from "testcontainers";
import { expect, test } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { builtProgram } from "../../deploy/up/built.ts";
import type { RunStatus } from "../../deploy/up/status.ts";
import { splitAddress } from "../../shared/process/addresses.ts";
import { type JoinToken, parseLink } from "../../shared/security/join-link.ts";
import { joinOnce, newIdentity } from "../../worker/security/obtain.ts";
import { docker, whyNoDocker } from "../monitoring/docker.ts";
import { attackCount } from "../security/attacks.ts";
import type { Outcome, Target } from "../security/attempt.ts";
import { bitsOf, SMALL_SET, type Summary, summaryOf, train } from "../up/runs.ts";

/**
 * The story of several hosts with containers in place of namespaces, where a Docker engine answers and LOCKSTEP_IMAGE names an
 * image of deploy/images/Dockerfile, made of this checkout.
 */
const IMAGE = process.env.LOCKSTEP_IMAGE ?? "";
const here = docker && IMAGE !== "";
const why = here
  ? ""
  : whyNoDocker || " (skipped: LOCKSTEP_IMAGE names no image; deploy/images/README.md says how to make one)";
const RUN = "/var/lib/lockstep/runs/run";
const STEPS = 80;
const RECIPE = ["--model", "alexnet", "--steps", String(STEPS), "--batch", "40", "--shards", "8", "--seed", "7"];
const PATIENCE = 180_000;

test.skipIf(!here)(
  `containers of the image join, are drained, cut off and attacked, and the bits stay${why}`,
  async () => {
    const { GenericContainer, Network, getContainerRuntimeClient } = await import("testcontainers");
    const directory = mkdtempSync(join(tmpdir(), "lockstep-images-"));
    const data = join(directory, "data");
    await writeSynthetic(data, SMALL_SET);
    const quiet = train(data, join(directory, "quiet"), 1, RECIPE);
    const network = await new Network().start();
    const started: StartedTestContainer[] = [];
    const contain = async (name: string, command: string[], environment: Record<string, string>, cores: number) => {
      const container = await new GenericContainer(IMAGE)
        .withNetwork(network)
        .withNetworkAliases(name)
        .withEnvironment(environment)
        .withCommand(command)
        .withTmpFs({ "/tmp": "rw" })
        .withResourcesQuota({ cpu: cores })
        .withCopyDirectoriesToContainer(name === "coordinator" ? [{ source: data, target: "/data" }] : [])
        .start();
      started.push(container);
      return container;
    };
    try {
      const coordinator = await contain(
        "coordinator",
        [
          ...["up", ...RECIPE, "--data", "/data", "--out", RUN, "--share", "/var/lib/lockstep/share", "--no-eval"],
          ...["--no-local-workers", "--workers", "2", "--listen", "0.0.0.0", "--advertise", "coordinator"],
          ...["--ports", "7400-7419"],
        ],
        {},
        1,
      );
      const inside = async (...command: string[]) => (await coordinator.exec(command)).stdout.trim();
      const until = async (what: string, holds: () => Promise<boolean>) => {
        for (const end = Date.now() + PATIENCE; !(await holds()); await sleep(500))
          if (Date.now() > end) throw new Error(`not within ${PATIENCE / 1000} s: ${what}`);
      };
      const status = async (): Promise<RunStatus | null> => {
        const text = await inside("lockstep", "status", RUN, "--json");
        return text.startsWith("{") ? (JSON.parse(text) as RunStatus) : null;
      };
      const computing = (names: string[]) =>
        until(`${names.join(", ")} compute`, async () => {
          const workers = (await status())?.workers ?? [];
          const busy = workers.filter(({ state }) => state === "computing").map(({ name }) => name);
          return busy.sort().join() === names.join();
        });
      let link = "";
      await until("the join line", async () => {
        link = await inside("cat", "/var/lib/lockstep/share/join");
        return link.startsWith("lockstep://");
      });
      const work = (name: string) =>
        contain(
          name,
          ["worker", "--name", name, "--data", "fetch"],
          { LOCKSTEP_JOIN: link, LOCKSTEP_SHARD_DELAY: `${name}:150` },
          0.5,
        );
      const first = await work("worker-0");
      await work("worker-1");
      await computing(["worker-0", "worker-1"]);
      const third = await work("worker-2");
      await computing(["worker-0", "worker-1", "worker-2"]);

      const outcomes = await intrude();
      expect(outcomes.filter(({ held }) => !held)).toEqual([]);
      expect(outcomes).toHaveLength(attackCount(true));

      await first.stop({ timeout: 60_000, remove: false });
      await computing(["worker-1", "worker-2"]);
      const client = await getContainerRuntimeClient();
      await client.network.getById(network.getId()).disconnect({ Container: third.getId(), Force: true });
      await computing(["worker-1"]);
      await inside("lockstep", "inject", RUN, "slow", "--worker", "worker-1");
      let summary: Summary = {};
      await until("the run ends", async () => {
        // The container ends with the run; its files stay.
        const copied = spawnSync("docker", ["cp", `${coordinator.getId()}:${RUN}/summary.json`, directory]);
        if (copied.status !== 0) return false;
        summary = summaryOf(directory);
        return summary.weightsSha256 !== undefined;
      });
      expect((await quiet.ended).code, quiet.err()).toBe(0);
      expect(bitsOf(summary)).toEqual(bitsOf(summaryOf(join(directory, "quiet"))));
      expect(summary).toMatchObject({ failuresSurvived: 1, samplesPerEpochExact: true });

      /** From this machine, which reaches the containers by their addresses and has no certificate of the run. */
      async function intrude(): Promise<Outcome[]> {
        const at = (port: number) => `${coordinator.getIpAddress(network.getName())}:${port}`;
        const token = async (...more: string[]): Promise<JoinToken> =>
          parseLink((await inside("lockstep", "token", "create", RUN, ...more)).split(" ").at(-1)!).token!;
        const dead = {
          expired: await token("--lifetime", "1s"),
          used: await token("--uses", "1"),
          revoked: await token(),
        };
        const tokens = { ...dead, insider: await token() };
        await inside("lockstep", "token", "revoke", RUN, tokens.revoked.id);
        const { run, workers } = (await status())!;
        const where = at(splitAddress(parseLink(link).address)!.port);
        await joinOnce(where, tokens.used, { identity: newIdentity(), name: "once" });
        const members = workers.map((worker) => worker.address);
        const target: Target = { run, coordinator: where, members, nats: `tls://${at(7400)}`, tokens };
        const args = [builtProgram("test/security/intruder.js"), JSON.stringify(target), "quick"];
        const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
        const lines: Outcome[] = [];
        for await (const line of createInterface({ input: child.stdout })) lines.push(JSON.parse(line) as Outcome);
        return lines;
      }
    } finally {
      quiet.signal("SIGKILL");
      for (const container of started.reverse()) await container.stop({ timeout: 0 }).catch(() => {});
      await network.stop();
      rmSync(directory, { recursive: true, force: true });
    }
  },
  900_000,
);
