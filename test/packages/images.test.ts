import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { builtProgram } from "../../deploy/up/built.ts";
import { onPath } from "../../deploy/up/nats-program.ts";
import { version } from "../../shared/version.ts";
import { fileOf } from "../monitoring/names.ts";
import { type Instruction, instructionsOf, stagesOf } from "./dockerfile.ts";

const HERE = "deploy/images";
const read = (path: string) => readFileSync(fileOf(path), "utf8");
const instructions = instructionsOf(read(`${HERE}/Dockerfile`));
const stages = stagesOf(instructions);
const help = (command: string) =>
  execFileSync(process.execPath, [builtProgram("deploy/cli/main.js"), command, "--help"], { encoding: "utf8" });

describe("the Dockerfile", () => {
  it("copies what exists, and what .dockerignore lets through", () => {
    const ignored = read(".dockerignore").split("\n");
    expect(ignored).toContain("*");
    const let_ = ignored.filter((line) => line.startsWith("!")).map((line) => line.slice(1));
    const copied = instructions
      .filter(({ name, rest }) => name === "COPY" && !rest.startsWith("--from"))
      .flatMap(({ rest }) => rest.split(/\s+/).slice(0, -1));
    expect(copied.length).toBeGreaterThan(5);
    for (const path of [...copied, ...let_]) expect(existsSync(fileOf(path)), path).toBe(true);
    expect([...copied].sort()).toEqual([...let_].sort());
  });

  it("begins with one exact version of Node that the project supports", () => {
    const base = instructions.find(({ name, rest }) => name === "ARG" && rest.startsWith("BASE="))?.rest;
    const [, major, minor] = /^BASE=node:(\d+)\.(\d+)\.\d+-bookworm-slim$/.exec(base ?? "") ?? [];
    expect(["20", "22", "24"]).toContain(major);
    if (major === "20") expect(Number(minor)).toBeGreaterThanOrEqual(18);
    const names = stages.map(({ name }) => name);
    for (const { from } of stages) expect(from === "$" + "{BASE}" || names.includes(from), from).toBe(true);
  });

  it("makes two images that run as nobody in particular, with an entry point, a health check and no compiler", () => {
    for (const target of ["cpu", "cuda12"]) {
      const line: Instruction[] = [];
      for (let name = target; name !== "$" + "{BASE}"; ) {
        const stage = stages.find((one) => one.name === name)!;
        line.unshift(...stage.instructions);
        name = stage.from;
      }
      const last = (name: string) => line.findLast((one) => one.name === name)?.rest;
      expect(last("USER")).toMatch(/^[1-9]\d*:[1-9]\d*$/);
      expect(JSON.parse(last("ENTRYPOINT")!)).toEqual(["tini", "--", "lockstep"]);
      expect(last("HEALTHCHECK")).toContain('CMD ["lockstep-health"]');
      expect(last("LABEL")).toContain(`org.opencontainers.image.version="${version}"`);
      expect(line.filter(({ name, rest }) => name === "RUN" && rest.includes("g++"))).toEqual([]);
      const copied = line.filter(({ name }) => name === "COPY").map(({ rest }) => rest);
      expect(copied).toEqual([
        `--from=library-${target} /opt/lockstep /opt/lockstep`,
        `--from=library-${target} /var/cache/lockstep /var/cache/lockstep`,
      ]);
    }
  });
});

interface Service {
  readonly image: string;
  readonly build?: { readonly context?: string; readonly dockerfile?: string; readonly target?: string };
  readonly command?: string | string[];
  readonly user?: string;
  readonly read_only?: boolean;
  readonly volumes?: readonly string[];
  readonly ports?: readonly string[];
}
interface Compose {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes?: Readonly<Record<string, unknown>>;
}
const composeOf = (name: string) => parse(read(`${HERE}/${name}`), { merge: true }) as Compose;
const stack = composeOf("compose.yml");
const gpu = composeOf("compose.gpu.yml");

describe("the compose files", () => {
  it("mount what exists and volumes that they declare, and publish on loopback alone", () => {
    const beside = dirname(fileOf(`${HERE}/compose.yml`));
    const declared = Object.keys(stack.volumes ?? {});
    expect(declared.length).toBeGreaterThan(0);
    for (const { volumes = [], ports = [], build } of Object.values(stack.services)) {
      for (const volume of volumes) {
        // LOCKSTEP_DATA, which may be a path of whoever starts it; else a volume.
        const source = volume.replace(/^\$\{\w+:-(\w+)\}/, "$1").split(":")[0]!;
        if (source.startsWith(".")) expect(existsSync(resolve(beside, source)), source).toBe(true);
        else expect(declared, volume).toContain(source);
      }
      for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:\d+:\d+$/);
      if (build === undefined) continue;
      const context = resolve(beside, build.context!);
      expect(existsSync(join(context, build.dockerfile!))).toBe(true);
      expect(stages.map(({ name }) => name)).toContain(build.target);
    }
  });

  it("name this version's images, each made by its own target", () => {
    const ours = [...Object.values(stack.services), ...Object.values(gpu.services)].filter(({ build }) => build);
    expect(ours).toHaveLength(3);
    for (const { image, build } of ours) expect(image).toBe(`lockstep:${version}-${build!.target}`);
    for (const name of ["coordinator", "worker"]) expect(stack.services[name]!.read_only).toBe(true);
    for (const { image } of Object.values(stack.services)) expect(image).toMatch(/:v?\d+\.\d+\.\d+(-\w+)?$/);
    expect(read(`${HERE}/README.md`)).not.toMatch(new RegExp(`lockstep:(?!${version}|VERSION)`));
  });

  it("give options that the commands have, and pages where the health check and Prometheus look", () => {
    const known = { up: help("up"), worker: help("worker") };
    const commands = [stack.services.coordinator, stack.services.worker, gpu.services.worker].map((one) =>
      String(one!.command),
    );
    for (const command of commands) {
      const which = command.trim().startsWith("up") ? "up" : "worker";
      for (const [option] of command.matchAll(/--[a-z][a-z-]+/g)) expect(known[which], option).toContain(`${option} `);
      expect(command).toMatch(/--http 0\.0\.0\.0:7430\b/);
    }
    expect(read(`${HERE}/health.mjs`)).toContain("https://127.0.0.1:7430/healthz");
    expect(read(`${HERE}/prometheus.yml`).match(/https:\/\/coordinator:7430\/targets/g)).toHaveLength(2);
  });

  const compose = spawnSync("docker", ["compose", "version"], { stdio: "ignore" }).status === 0;
  it.skipIf(!compose)(`are what Docker's compose takes${compose ? "" : " (skipped: no docker compose)"}`, () => {
    const config = (...files: string[]) =>
      execFileSync(
        "docker",
        ["compose", ...files.flatMap((file) => ["-f", fileOf(`${HERE}/${file}`)]), "config", "--format", "json"],
        { encoding: "utf8", env: { ...process.env, LOCKSTEP_WORKERS: "4", LOCKSTEP_DATA: "/srv/data" } },
      );
    const { services } = JSON.parse(config("compose.yml")) as {
      services: Record<string, { deploy?: { replicas?: number }; environment?: Record<string, string> }>;
    };
    expect(services.worker!.deploy!.replicas).toBe(4);
    expect(services.coordinator!.environment).toEqual({ LOCKSTEP_DATA: "/data" });
    expect(config("compose.yml", "compose.gpu.yml")).toContain("nvidia");
  });
});

it("Prometheus is told that the token is a bearer's: its discovery of version 2.42 does not know it otherwise", () => {
  for (const file of [`${HERE}/prometheus.yml`, "deploy/prometheus/kubernetes.yml", "deploy/prometheus/README.md"]) {
    const asked = read(file).match(/authorization: .*/g) ?? [];
    expect(asked.length).toBeGreaterThan(2);
    for (const line of asked) expect(line, file).toMatch(/type: Bearer, credentials_file: /);
  }
});

const promtool = onPath("promtool");
it.skipIf(promtool === null)(
  `Prometheus takes its configuration${promtool === null ? " (skipped: no promtool)" : ""}`,
  () => {
    const check = spawnSync(promtool!, ["check", "config", "--syntax-only", fileOf(`${HERE}/prometheus.yml`)], {
      encoding: "utf8",
    });
    expect(check.status, check.stderr).toBe(0);
  },
);

const hadolint = onPath("hadolint");
it.skipIf(hadolint === null)(`hadolint finds nothing${hadolint === null ? " (skipped: no hadolint)" : ""}`, () => {
  const check = spawnSync(hadolint!, [fileOf(`${HERE}/Dockerfile`)], { encoding: "utf8" });
  expect(check.status, check.stdout).toBe(0);
});
