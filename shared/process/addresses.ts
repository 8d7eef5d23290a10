import { isIP, isIPv6 } from "node:net";
import type { NetworkInterfaceInfo } from "node:os";
import { LockstepError } from "../errors.ts";

/** Addresses as people write them and as sockets want them. */

export interface Address {
  /** A name or an address, IPv6 without brackets. */
  readonly host: string;
  readonly port: number;
}

/** host:port, with brackets around an IPv6 address. */
export const hostPort = (host: string, port: number): string =>
  isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;

/** The parts of host:port or [ipv6]:port; null for anything else. */
export function splitAddress(text: string): Address | null {
  const parts = /^(?:\[([0-9a-f:.]+(?:%\w+)?)\]|([^:/[\]\s]+)):(\d{1,5})$/i.exec(text);
  if (parts === null) return null;
  const port = Number(parts[3]);
  const host = (parts[1] ?? parts[2])!;
  if (port > 65_535 || (parts[1] !== undefined && !isIPv6(host))) return null;
  return { host, port };
}

/** This machine alone. */
export const isLoopback = (host: string): boolean =>
  host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host) || /^::ffff:127\./i.test(host);

/** All addresses of this machine. */
export const isEverywhere = (host: string): boolean => host === "0.0.0.0" || host === "::";

/** Ports from `from` to `to`, both included; `from` 0: any free port. */
export interface Ports {
  readonly from: number;
  readonly to: number;
}

export const ANY_PORT: Ports = { from: 0, to: 0 };

/** "7000-7010" or "7000". @throws LockstepError LS_USAGE */
export function parsePorts(text: string, what = "--ports"): Ports {
  const parts = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text.trim());
  const from = Number(parts?.[1]);
  const to = Number(parts?.[2] ?? parts?.[1]);
  if (parts !== null && from > 0 && from <= to && to <= 65_535) return { from, to };
  throw new LockstepError("LS_USAGE", `${what} must be a port or a range such as 7400-7409; it is "${text}".`, {
    exitCode: 2,
  });
}

/** Where pages listen. */
export interface PageAddress {
  /** IPv6 without brackets. */
  readonly host: string;
  readonly ports: Ports;
}

/** An address, and ports after it where they matter: 0.0.0.0, ::, 0.0.0.0:7430, [::]:7430-7439. @throws LockstepError LS_USAGE */
export function parsePageAddress(text: string): PageAddress {
  if (isIPv6(text)) return { host: text, ports: ANY_PORT };
  const parts = /^(?:\[([0-9a-f:.]+)\]|([^:/[\]\s]+))(?::(\d+(?:-\d+)?))?$/i.exec(text);
  const host = parts?.[1] ?? parts?.[2];
  if (host !== undefined && (parts?.[1] === undefined || isIPv6(host)))
    return { host, ports: parts?.[3] === undefined ? ANY_PORT : parsePorts(parts[3], "--http's ports") };
  throw new LockstepError(
    "LS_USAGE",
    `--http must be an address, or one with ports such as 0.0.0.0:7430; it is "${text}".`,
    {
      exitCode: 2,
    },
  );
}

/**
 * Binds the first port of a range that is free.
 * @param bind rejects with the system's error
 * @throws that error, of the last port where none is free
 */
export async function bindFirst<T>({ from, to }: Ports, bind: (port: number) => Promise<T>): Promise<T> {
  for (let port = from; ; port++) {
    try {
      return await bind(port);
    } catch (error) {
      // grpc-js reports it without a code.
      if (port === to || !/EADDRINUSE/.test(String((error as Error).message))) throw error;
    }
  }
}

type Interfaces = Readonly<Record<string, readonly NetworkInterfaceInfo[] | undefined>>;

/** Addresses by which other machines may reach this one, IPv4 first. Link-local ones need a zone and are left out. */
export function reachableAddresses(interfaces: Interfaces): { readonly name: string; readonly address: string }[] {
  const all = Object.entries(interfaces).flatMap(([name, infos]) =>
    (infos ?? [])
      .filter(({ internal, address }) => !internal && !/^(fe80:|169\.254\.)/i.test(address))
      .map(({ address, family }) => ({ name, address, family })),
  );
  const rank = ({ family }: { family: string }) => (family === "IPv4" ? 0 : 1);
  return all.sort((a, b) => rank(a) - rank(b)).map(({ name, address }) => ({ name, address }));
}

/**
 * What a process tells others to dial. A process that listens on one address says that one; one that listens everywhere
 * says the only address it has, and must be told which where it has several.
 * @throws LockstepError LS_ADVERTISE, naming the choices
 */
export function advertisedHost(listen: string, advertise: string | null, interfaces: Interfaces): string {
  if (advertise !== null) {
    if (isEverywhere(advertise) || !/^[\w.:%-]+$/.test(advertise) || (advertise.includes(":") && isIP(advertise) === 0))
      throw ambiguous(`--advertise ${advertise} is no address that others can dial`, interfaces);
    return advertise;
  }
  if (!isEverywhere(listen)) return listen;
  const usable = reachableAddresses(interfaces).filter(({ address }) => listen === "::" || !isIPv6(address));
  const names = new Set(usable.map(({ name }) => name));
  if (names.size === 1) return usable[0]!.address;
  throw ambiguous(
    usable.length === 0 ? "This machine has no address that others can dial" : "This machine has several addresses",
    interfaces,
  );
}

function ambiguous(what: string, interfaces: Interfaces): LockstepError {
  const choices = reachableAddresses(interfaces).map(({ name, address }) => `${address} (${name})`);
  const hint =
    choices.length === 0
      ? "Connect it to a network, or use --listen 127.0.0.1."
      : `Say which one the others are to dial: --advertise ${choices.join(", or --advertise ")}.`;
  return new LockstepError("LS_ADVERTISE", `${what}.`, { hint, exitCode: 2 });
}
