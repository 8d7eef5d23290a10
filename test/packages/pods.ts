import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { onPath } from "../../deploy/up/nats-program.ts";
import { cacheDirectory } from "../../shared/process/cache.ts";
import { Network } from "../hosts/network.ts";
import { until } from "../up/support.ts";
import { type Container, find, type KubernetesObject, type Probe, type Volume, workload } from "./chart.ts";
import { firewallOf } from "./policies.ts";

const REPOSITORY = fileURLToPath(new URL("../..", import.meta.url));
/** As the images have it. */
const USER = 10001;
const ENVIRONMENT = { LOCKSTEP_CACHE: "/var/cache/lockstep", HOME: "/tmp", NODE_ENV: "production" };
const PATH = "/opt/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
/** Without rights, as the chart's security contexts want it. */
const CONFINED = `setpriv --reuid ${USER} --regid ${USER} --groups ${USER} --no-new-privs --bounding-set=-all --inh-caps=-all`;

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/** Why pods cannot be played here; null where they can. */
export function hindrance(): string | null {
  const tried = spawnSync("unshare", ["-m", "sh", "-c", "mount -t tmpfs tmpfs /mnt && setpriv --version"], {
    encoding: "utf8",
  });
  if (tried.error !== undefined || tried.status !== 0) return "mounts of one's own and setpriv (they take root)";
  if (onPath("iptables") === null) return "iptables is not installed";
  return Network.hindrance();
}

/**
 * Pods of rendered objects as processes of this machine, without containers: each with a root of its own that cannot be written,
 * the volumes that its container mounts, a network of its own, the user and the (lack of) rights that the chart gives, and the
 * arguments and environment of its container word for word. What an image brings is bound from this checkout.
 */
export class Pods {
  readonly #objects: readonly KubernetesObject[];
  readonly #network: Network;
  readonly #scratch: string;
  readonly #claims: Readonly<Record<string, string>>;
  readonly #running = new Set<Pod>();

  /**
   * On the first node the coordinator runs, on the next two workers, on the fourth Prometheus, and on the fifth somebody else;
   * what policies let through is all that gets through.
   * @param claims directories for claims, by name; those that the objects make themselves come to lie in `scratch`
   */
  constructor(objects: readonly KubernetesObject[], scratch: string, claims: Readonly<Record<string, string>>) {
    this.#objects = objects;
    this.#scratch = scratch;
    this.#claims = claims;
    chmodSync(scratch, 0o755);
    const [ruling, working] = (["coordinator", "workers"] as const).map(
      (part) => workload(objects, part).template.metadata,
    );
    const labels = [ruling!.labels, working!.labels, working!.labels, { "app.kubernetes.io/name": "prometheus" }, {}];
    this.#network = Network.make(labels.length);
    const peers = labels.map((one, node) => ({ labels: one, address: this.address(node) }));
    for (const [node, peer] of peers.entries())
      for (const rule of firewallOf(objects, peer, peers)) {
        const { status, stderr } = this.at(node, ["iptables", "-w", ...rule]);
        if (status !== 0) throw new Error(`iptables ${rule.join(" ")}: ${stderr}`);
      }
  }

  /** Where a claim of the coordinator's StatefulSet lies. */
  claim(name: string): string {
    return join(this.#scratch, "claims", name);
  }

  address(node: number): string {
    return this.#network.address(node);
  }

  /** Runs a program of this machine at a node's place in the network. */
  at(node: number, command: readonly string[]) {
    const [program, ...args] = this.#network.on(node, command);
    return spawnSync(program!, args, { encoding: "utf8" });
  }

  /** @param without environment of the container that this life of it does not get */
  start(part: "coordinator" | "workers", name: string, node: number, without = ""): Pod {
    const { template, volumeClaimTemplates = [] } = workload(this.#objects, part);
    const [container] = template.spec.containers;
    const volumes = [
      ...template.spec.volumes,
      ...volumeClaimTemplates.map(({ metadata }) => ({
        name: metadata.name,
        persistentVolumeClaim: { claimName: metadata.name },
      })),
    ];
    const sources = new Map(volumes.map((volume) => [volume.name, this.#source(volume, name)]));
    const env: Record<string, string> = { ...ENVIRONMENT };
    const fields: Readonly<Record<string, string>> = { "metadata.name": name, "spec.nodeName": `node-${node}` };
    for (const { name: variable, value, valueFrom } of container.env ?? [])
      if (variable !== without) env[variable] = value ?? fields[valueFrom!.fieldRef.fieldPath]!;
    const args = container.args.map((arg) => arg.replace(/\$\((\w+)\)/g, (_, variable: string) => env[variable]!));
    const script = [
      ...rootOf(this.#hosts()),
      ...container.volumeMounts.flatMap((mount) => mountOf(mount, sources.get(mount.name)!)),
      'mount -o remount,ro "$R"',
      `cd "$R" && exec chroot "$R" ${CONFINED} env -i PATH=${PATH} ${environment(env)} lockstep ${args.map(quoted).join(" ")}`,
    ].join("\n");
    const [program, ...rest] = this.#network.on(node, ["unshare", "-m", "bash", "-euc", script]);
    const pod = new Pod(spawn(program!, rest, { stdio: ["ignore", "pipe", "pipe"] }), container, env, (command) =>
      this.at(node, command),
    );
    this.#running.add(pod);
    return pod;
  }

  remove(): void {
    for (const pod of this.#running) pod.signal("SIGKILL");
    this.#network.remove();
  }

  /** What the cluster's DNS would say: the coordinator is on the first node, worker n of a StatefulSet on node n + 1. */
  #hosts(): string {
    const services = this.#objects.filter(({ kind }) => kind === "Service").map(({ metadata }) => metadata.name);
    return services
      .flatMap((name) =>
        name.endsWith("-coordinator")
          ? [`${this.address(0)} ${name}.lab.svc`]
          : [0, 1].map((n) => `${this.address(n + 1)} ${name}-${n}.${name}.lab.svc`),
      )
      .join("\n");
  }

  #source(volume: Volume, pod: string): string {
    const { secret, configMap, persistentVolumeClaim } = volume;
    const claim = persistentVolumeClaim?.claimName;
    if (claim !== undefined && this.#claims[claim] !== undefined) return this.#claims[claim];
    const at = claim === undefined ? join(this.#scratch, "pods", pod, volume.name) : this.claim(claim);
    mkdirSync(at, { recursive: true });
    // As fsGroup has it.
    chownSync(at, 0, USER);
    chmodSync(at, 0o2775);
    const texts = secret === undefined ? {} : (find(this.#objects, "Secret", secret.secretName).stringData ?? {});
    for (const { key, path } of secret?.items ?? []) put(join(at, path), texts[key]!);
    const map = configMap === undefined ? {} : (find(this.#objects, "ConfigMap", configMap.name).data ?? {});
    for (const [name, text] of Object.entries(map)) put(join(at, name), text);
    return at;
  }
}

function put(file: string, text: string): void {
  writeFileSync(file, text, { mode: 0o440 });
  chownSync(file, 0, USER);
}

const environment = (env: Readonly<Record<string, string>>): string =>
  Object.entries(env)
    .map(([name, value]) => quoted(`${name}=${value}`))
    .join(" ");

/** A root of its own in $R: the system's programs, what an image of Lockstep holds, and nothing else. */
function rootOf(hosts: string): string[] {
  const cache = cacheDirectory();
  const kept = readdirSync(cache).filter((name) => name !== "data");
  return [
    "mount --make-rprivate /",
    "R=/mnt; mount -t tmpfs -o mode=755 tmpfs $R",
    'for d in bin lib lib64 sbin; do [ -L /$d ] && cp -P /$d "$R"; [ -L /$d ] || { mkdir "$R/$d"; mount --rbind /$d "$R/$d"; }; done',
    'for d in usr dev proc sys; do mkdir "$R/$d"; mount --rbind /$d "$R/$d"; done',
    'mkdir -p "$R"/{etc,tmp,opt/bin,opt/lockstep,var/lib/lockstep,var/cache/lockstep/data}',
    'for f in passwd group nsswitch.conf ld.so.cache; do [ ! -e /etc/$f ] || cp /etc/$f "$R/etc/"; done',
    `printf '127.0.0.1 localhost\\n%s\\n' ${quoted(hosts)} >"$R/etc/hosts"`,
    `mount --bind ${quoted(REPOSITORY)} "$R/opt/lockstep"`,
    `touch "$R/opt/bin/node"; mount --bind ${quoted(process.execPath)} "$R/opt/bin/node"`,
    `printf '#!/bin/sh\\nexec node /opt/lockstep/dist/deploy/cli/main.js "$@"\\n' >"$R/opt/bin/lockstep"`,
    `printf '#!/bin/sh\\nexec node /opt/lockstep/deploy/images/health.mjs "$@"\\n' >"$R/opt/bin/lockstep-health"`,
    'chmod 755 "$R"/opt/bin/lockstep*',
    ...kept.map((name) => {
      const to = `"$R/var/cache/lockstep"/${quoted(name)}`;
      return `mkdir ${to}; mount --bind ${quoted(join(cache, name))} ${to}`;
    }),
    // The add-on is a link into this machine's cache.
    `mkdir -p "$R"${quoted(dirname(cache))}; [ -e "$R"${quoted(cache)} ] || ln -s /var/cache/lockstep "$R"${quoted(cache)}`,
  ];
}

function mountOf(
  { mountPath, subPath, readOnly = false }: Container["volumeMounts"][number],
  source: string,
): string[] {
  const from = subPath === undefined ? source : join(source, subPath);
  if (!existsSync(from)) {
    mkdirSync(from, { mode: 0o2775 });
    chownSync(from, 0, USER);
    chmodSync(from, 0o2775);
  }
  const to = `"$R"${quoted(mountPath)}`;
  return [
    `mkdir -p ${to}; mount --bind ${quoted(from)} ${to}`,
    ...(readOnly ? [`mount -o remount,bind,ro ${to}`] : []),
  ];
}

export class Pod {
  readonly ended: Promise<number | null>;
  said = "";
  over = false;
  readonly #child: ChildProcess;
  readonly #container: Container;
  readonly #env: Readonly<Record<string, string>>;
  readonly #here: (command: readonly string[]) => { readonly status: number | null };

  constructor(
    child: ChildProcess,
    container: Container,
    env: Readonly<Record<string, string>>,
    here: (command: readonly string[]) => { readonly status: number | null },
  ) {
    this.#child = child;
    this.#container = container;
    this.#env = env;
    this.#here = here;
    const say = (data: Buffer) => {
      this.said += data.toString();
    };
    child.stdout?.on("data", say);
    child.stderr?.on("data", say);
    this.ended = new Promise((resolve) =>
      child.once("close", (code) => {
        this.over = true;
        resolve(code);
      }),
    );
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** @throws Error with its last words where it ends before that */
  async until(condition: () => boolean): Promise<void> {
    let over = false;
    const ended = this.ended.then((code) => {
      if (!over) throw new Error(`the pod ended with ${code}: ${this.said}`);
    });
    await Promise.race([until(() => over || condition()), ended]).finally(() => {
      over = true;
    });
  }

  /** As `kubectl exec` does it. */
  exec(command: readonly string[]) {
    const inside = ["-t", String(this.#child.pid), "-m", "-n", "-r", "-w"];
    const text = `exec ${CONFINED} env -i PATH=${PATH} ${environment(this.#env)} ${command.map(quoted).join(" ")}`;
    return spawnSync("nsenter", [...inside, "sh", "-c", text], { encoding: "utf8", maxBuffer: 2 ** 28 });
  }

  /** Whether a probe of the container holds, asked as the kubelet asks it. */
  holds({ httpGet, exec }: Probe, address: string): boolean {
    if (exec !== undefined) return this.exec(exec.command).status === 0;
    const port = this.#container.ports.find(({ name }) => name === httpGet!.port)!.containerPort;
    const url = `${httpGet!.scheme.toLowerCase()}://${address}:${port}${httpGet!.path}`;
    return this.#here([process.execPath, join(REPOSITORY, "deploy/images/health.mjs"), url]).status === 0;
  }
}
