import { spawnSync } from "node:child_process";

/**
 * Hosts of a network of their own on this machine: one namespace each, joined by a bridge in another one. Who may not make
 * namespaces (they take root) is told why.
 */
export class Network {
  readonly #tag: string;
  readonly #hosts: number;
  /** What each host may send, in kilobits a second; null: what the machine can. */
  readonly #rate: number | null;

  readonly #filters = new Set<number>();

  private constructor(hosts: number, rate: number | null) {
    this.#hosts = hosts;
    this.#rate = rate;
    this.#tag = `ls${process.pid}`;
  }

  /** Why there can be no such network here; null where there can. */
  static hindrance(): string | null {
    const name = `lsprobe${process.pid}`;
    const made = ip("netns", "add", name);
    if (made !== null) return `network namespaces: ${made}`;
    const veth = ip("-n", name, "link", "add", "veth0", "type", "veth", "peer", "name", "veth1");
    ip("netns", "del", name);
    return veth === null ? null : `virtual links: ${veth}`;
  }

  /**
   * Host 0 and so on, at 10.77.0.1 and so on.
   * @param rate of each host's link, in kilobits a second
   * @throws Error what the system refuses
   */
  static make(hosts: number, rate: number | null = null): Network {
    const network = new Network(hosts, rate);
    try {
      network.#build();
      return network;
    } catch (error) {
      network.remove();
      throw error;
    }
  }

  address(host: number): string {
    return `10.77.0.${host + 1}`;
  }

  /** Program and arguments that run a command on a host. */
  on(host: number, command: readonly string[]): string[] {
    return ["ip", "netns", "exec", this.#name(host), ...command];
  }

  /** Packets from one host to another vanish: they go to a machine that does not exist. The other way stays open. */
  lose(from: number, to: number): void {
    must(
      "-n",
      this.#name(from),
      ...["neigh", "replace", this.address(to), "lladdr", NOWHERE, "dev", "eth0", "nud", "permanent"],
    );
  }

  /** Every packet from and to a host vanishes. */
  isolate(host: number): void {
    for (const other of this.#others(host)) {
      this.lose(host, other);
      this.lose(other, host);
    }
  }

  /** A host's network is closed: whoever sends there is told so at once. */
  close(host: number): void {
    for (const other of this.#others(host)) {
      must("-n", this.#name(host), "route", "replace", "unreachable", `${this.address(other)}/32`);
      must("-n", this.#name(other), "route", "replace", "unreachable", `${this.address(host)}/32`);
    }
  }

  /** What a host sends passes at so many kilobits a second; what comes when its queue is full is lost. */
  slow(host: number, kilobits: number, queue = "100kb"): void {
    const bucket = ["rate", `${kilobits}kbit`, "burst", "4kb", "limit", queue];
    const wrong = this.#queue(host, "replace", "tbf", ...bucket);
    if (wrong !== null) throw new Error(wrong);
  }

  /** What a host sends is lost now and then. False where the system has neither such a queue nor such a filter. */
  drop(host: number, percent: number): boolean {
    if (this.#queue(host, "replace", "netem", "loss", `${percent}%`) === null) return true;
    // Where it arrives: the sender would be told of what its own filter drops.
    const chance = ["-m", "statistic", "--mode", "random", "--probability", String(percent / 100)];
    const rule = ["-A", "INPUT", "-s", this.address(host), ...chance, "-j", "DROP"];
    return this.#others(host).every((other) => this.#filter(other, ...rule) === null);
  }

  /** All is well again. */
  heal(): void {
    for (let host = 0; host < this.#hosts; host++) {
      const name = this.#name(host);
      for (const other of this.#others(host)) {
        ip("-n", name, "neigh", "del", this.address(other), "dev", "eth0");
        ip("-n", name, "route", "del", "unreachable", `${this.address(other)}/32`);
      }
      this.#queue(host, "del");
      this.#limit(host);
      if (this.#filters.has(host)) this.#filter(host, "-F", "INPUT");
    }
  }

  remove(): void {
    for (let host = 0; host < this.#hosts; host++) ip("netns", "del", this.#name(host));
    ip("netns", "del", `${this.#tag}-hub`);
  }

  #others(host: number): number[] {
    return Array.from({ length: this.#hosts }, (_, other) => other).filter((other) => other !== host);
  }

  /** What went wrong; null: nothing. */
  #filter(host: number, ...change: readonly string[]): string | null {
    this.#filters.add(host);
    const [program, ...args] = this.on(host, ["iptables", ...change]);
    return run(program!, args);
  }

  /** Changes the queue through which a host sends. What went wrong; null: nothing. */
  #queue(host: number, change: string, ...queue: readonly string[]): string | null {
    const [program, ...args] = this.on(host, ["tc", "qdisc", change, "dev", "eth0", "root", ...queue]);
    return run(program!, args);
  }

  /** A link of this network is no faster than it was made. */
  #limit(host: number): void {
    if (this.#rate === null) return;
    const wrong = this.#queue(host, "replace", "tbf", "rate", `${this.#rate}kbit`, "burst", "256kb", "latency", "50ms");
    if (wrong !== null) throw new Error(wrong);
  }

  #name(host: number): string {
    return `${this.#tag}-${host}`;
  }

  #build(): void {
    const hub = `${this.#tag}-hub`;
    must("netns", "add", hub);
    must("-n", hub, "link", "add", "br0", "type", "bridge");
    must("-n", hub, "link", "set", "br0", "up");
    for (let host = 0; host < this.#hosts; host++) {
      const name = this.#name(host);
      must("netns", "add", name);
      must("-n", hub, "link", "add", `p${host}`, "type", "veth", "peer", "name", "eth0", "netns", name);
      must("-n", hub, "link", "set", `p${host}`, "master", "br0", "up");
      must("-n", name, "addr", "add", `${this.address(host)}/24`, "dev", "eth0");
      must("-n", name, "link", "set", "eth0", "up");
      must("-n", name, "link", "set", "lo", "up");
      this.#limit(host);
    }
  }
}

const NOWHERE = "02:00:00:00:00:99";

/** What went wrong; null: nothing. */
function run(program: string, args: readonly string[]): string | null {
  const { status, stderr, error } = spawnSync(program, args, { encoding: "utf8" });
  if (error !== undefined) return error.message;
  return status === 0 ? null : stderr.trim().split("\n")[0]!;
}

const ip = (...args: string[]): string | null => run("ip", args);

function must(...args: string[]): void {
  const wrong = ip(...args);
  if (wrong !== null) throw new Error(`ip ${args.join(" ")}: ${wrong}`);
}
