import type { NetworkInterfaceInfo } from "node:os";
import { describe, expect, it } from "vitest";
import {
  advertisedHost,
  bindFirst,
  hostPort,
  isLoopback,
  parsePageAddress,
  parsePorts,
  splitAddress,
} from "../../shared/process/addresses.ts";

const on = (...addresses: string[]): NetworkInterfaceInfo[] =>
  addresses.map(
    (address) =>
      ({
        address,
        family: address.includes(":") ? "IPv6" : "IPv4",
        internal: isLoopback(address),
      }) as NetworkInterfaceInfo,
  );
const one = { lo: on("127.0.0.1", "::1"), eth0: on("10.0.0.5", "fd00::5", "fe80::5") };
const two = { ...one, eth1: on("192.168.7.5") };
const code = (name: string, words = "") =>
  expect.objectContaining({ code: name, hint: expect.stringContaining(words) });

describe("addresses", () => {
  it.each([
    ["10.0.0.1", 7400, "10.0.0.1:7400"],
    ["fd00::1", 7400, "[fd00::1]:7400"],
    ["host.example", 1, "host.example:1"],
  ])("%s port %d is written %s and read again", (host, port, text) => {
    expect(hostPort(host, port)).toBe(text);
    expect(splitAddress(text)).toEqual({ host, port });
  });

  it.each(["10.0.0.1", "fd00::1:7400", "[10.0.0.1]:80", "a:70000", ":80", "a b:80", "[::1]"])("%s is none", (text) =>
    expect(splitAddress(text)).toBeNull(),
  );

  it("tell this machine from others", () => {
    expect(["localhost", "127.8.9.1", "::1"].every(isLoopback)).toBe(true);
    expect(["127.example", "10.0.0.1", "::", "0.0.0.0"].some(isLoopback)).toBe(false);
  });
});

describe("what others are told to dial", () => {
  it("is the address listened on, or the only one that there is, or the one that was said", () => {
    expect(advertisedHost("10.1.1.1", null, two)).toBe("10.1.1.1");
    expect(advertisedHost("0.0.0.0", null, one)).toBe("10.0.0.5");
    expect(advertisedHost("::", null, { eth0: on("fd00::5", "fe80::5") })).toBe("fd00::5");
    expect(advertisedHost("0.0.0.0", "203.0.113.9", two)).toBe("203.0.113.9");
    expect(advertisedHost("0.0.0.0", "fd00::9", two)).toBe("fd00::9");
  });

  it("is asked for where a machine has several, with the choices", () => {
    const asked = code("LS_ADVERTISE", "--advertise 10.0.0.5 (eth0), or --advertise 192.168.7.5 (eth1)");
    expect(() => advertisedHost("0.0.0.0", null, two)).toThrow(asked);
    expect(() => advertisedHost("0.0.0.0", null, { lo: on("127.0.0.1") })).toThrow(code("LS_ADVERTISE", "network"));
    expect(() => advertisedHost("0.0.0.0", "0.0.0.0", one)).toThrow(code("LS_ADVERTISE"));
    expect(() => advertisedHost("0.0.0.0", "a/b", one)).toThrow(code("LS_ADVERTISE"));
  });
});

describe("ports", () => {
  it("are taken in their order, the first that is free", async () => {
    const busy = [7400, 7401];
    const bind = async (port: number) => {
      if (busy.includes(port)) throw new Error(`listen EADDRINUSE: address already in use 0.0.0.0:${port}`);
      return port;
    };
    expect(await bindFirst(parsePorts("7400-7409"), bind)).toBe(7402);
    await expect(bindFirst(parsePorts("7400-7401"), bind)).rejects.toThrow("EADDRINUSE");
    await expect(bindFirst(parsePorts("7409"), () => Promise.reject(new Error("EACCES")))).rejects.toThrow("EACCES");
  });

  it.each(["", "0", "7409-7400", "70000", "a-b", "7400-"])("%j is no range", (text) =>
    expect(() => parsePorts(text)).toThrow(expect.objectContaining({ code: "LS_USAGE" })),
  );

  it.each([
    ["0.0.0.0", "0.0.0.0", 0, 0],
    ["::", "::", 0, 0],
    ["fd00::7430", "fd00::7430", 0, 0],
    ["0.0.0.0:7430", "0.0.0.0", 7430, 7430],
    ["[::]:7430-7439", "::", 7430, 7439],
    ["pages.example:80", "pages.example", 80, 80],
  ])("of pages stand behind their address: %s", (text, host, from, to) => {
    expect(parsePageAddress(text)).toEqual({ host, ports: { from, to } });
  });

  it.each(["", "0.0.0.0:", "0.0.0.0:0", "0.0.0.0:9-8", "[10.0.0.1]:80", "a b", "https://a:1"])(
    "and %j is none for pages",
    (text) => expect(() => parsePageAddress(text)).toThrow(expect.objectContaining({ code: "LS_USAGE" })),
  );
});
