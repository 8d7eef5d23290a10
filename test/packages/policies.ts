import type { KubernetesObject } from "./chart.ts";

/** A pod as network policies see it. */
export interface Peer {
  readonly labels: Readonly<Record<string, string>>;
  readonly address: string;
}

interface Selector {
  readonly matchLabels?: Readonly<Record<string, string>>;
}
interface Port {
  readonly port: number;
  readonly endPort?: number;
  readonly protocol?: string;
}
interface Rule {
  readonly from?: readonly { readonly podSelector?: Selector; readonly ipBlock?: { readonly cidr: string } }[];
  readonly to?: Rule["from"];
  readonly ports?: readonly Port[];
}
interface Policy {
  readonly podSelector: Selector;
  readonly ingress: readonly Rule[];
  readonly egress: readonly Rule[];
}

const chosen = ({ matchLabels = {} }: Selector, { labels }: Peer): boolean =>
  Object.entries(matchLabels).every(([name, value]) => labels[name] === value);

/**
 * What a network plug-in makes of the rendered policies for one pod: calls of iptables, in its network. Namespaces are all one here.
 * @returns nothing where no policy chooses the pod
 */
export function firewallOf(objects: readonly KubernetesObject[], pod: Peer, all: readonly Peer[]): string[][] {
  const policies = objects
    .filter(({ kind }) => kind === "NetworkPolicy")
    .map(({ spec }) => spec as unknown as Policy)
    .filter(({ podSelector }) => chosen(podSelector, pod));
  if (policies.length === 0) return [];
  const chain = (name: "INPUT" | "OUTPUT", side: "-s" | "-d", rules: readonly Rule[]) => [
    // A pod always reaches itself, and what was begun may be answered.
    ["-A", name, name === "INPUT" ? "-i" : "-o", "lo", "-j", "ACCEPT"],
    ["-A", name, "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT"],
    ...rules.flatMap((rule) =>
      addressesOf(rule, all).flatMap((address) =>
        (rule.ports ?? []).map(({ port, endPort = port, protocol = "TCP" }) => {
          const where = address === null ? [] : [side, address];
          return ["-A", name, ...where, "-p", protocol.toLowerCase(), "--dport", `${port}:${endPort}`, "-j", "ACCEPT"];
        }),
      ),
    ),
    ["-A", name, "-j", "REJECT"],
  ];
  return [
    ...chain(
      "INPUT",
      "-s",
      policies.flatMap(({ ingress }) => ingress),
    ),
    ...chain(
      "OUTPUT",
      "-d",
      policies.flatMap(({ egress }) => egress),
    ),
  ];
}

/** null: anywhere. IPv6 is none of this network's. */
function addressesOf({ from, to }: Rule, all: readonly Peer[]): (string | null)[] {
  const peers = from ?? to;
  if (peers === undefined) return [null];
  return peers.flatMap(({ podSelector, ipBlock }) => {
    if (ipBlock !== undefined) return ipBlock.cidr.includes(":") ? [] : [ipBlock.cidr];
    return all.filter((peer) => chosen(podSelector!, peer)).map(({ address }) => address);
  });
}
