import { execFileSync } from "node:child_process";
import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { type AddressInfo, connect, type Socket } from "node:net";
import { onTestFinished } from "vitest";
import { Authority } from "../../coordinator/security/authority.ts";
import { temporaryFolder } from "./support.ts";

/** What stands between a machine and the index: proxies, other authorities, small disks. */

/** A proxy on loopback: whole addresses for plain HTTP, tunnels for the rest; all names lead to this machine. */
export async function proxy() {
  const asked: string[] = [];
  const open = new Set<Socket>();
  const server = createServer(async (request, response) => {
    const url = new URL(request.url ?? "");
    asked.push(`${request.method} ${url.host}`);
    const answer = await fetch(`http://127.0.0.1:${url.port}${url.pathname}`, {
      headers: Object.fromEntries(["accept", "range"].flatMap((name) => headerOf(request.headers[name], name))),
    });
    response.writeHead(answer.status, { "content-type": answer.headers.get("content-type") ?? "" });
    response.end(Buffer.from(await answer.arrayBuffer()));
  });
  server.on("connect", ({ url }, socket: Socket) => {
    asked.push(`CONNECT ${url}`);
    const far = connect(Number(String(url).split(":").at(-1)), "127.0.0.1", () => {
      socket.write("HTTP/1.1 200 Connection Established\r\n\r\n");
      far.pipe(socket).pipe(far);
    });
    for (const one of [far, socket]) open.add(one.on("error", () => {}));
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  onTestFinished(() => {
    for (const socket of open) socket.destroy();
    server.closeAllConnections();
    server.close();
  });
  return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

const headerOf = (value: string | string[] | undefined, name: string): [string, string][] =>
  typeof value === "string" ? [[name, value]] : [];

/** The files over TLS, as a mirror inside a company serves them: its authority is nobody's but its own. */
export async function secureMirror(name: string, files: Record<string, Buffer>) {
  const { authority } = await Authority.create("mirror");
  const subject = { role: "nats", name: "mirror", hosts: [name] } as const;
  const { certificate, key } = await authority.equip(subject, 3_600_000);
  const server = createSecureServer({ cert: certificate, key }, (request, response) => {
    const content = files[new URL(request.url ?? "/", "http://host").pathname];
    const type = request.url?.startsWith("/simple/") ? "application/vnd.pypi.simple.v1+json" : "application/zip";
    response.writeHead(content === undefined ? 404 : 200, { "content-type": type }).end(content);
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { origin: `https://${name}:${(server.address() as AddressInfo).port}`, authority: authority.certificate };
}

/** A disk of so many kilobytes, with a way to make it larger; null where this user may not mount one. */
export function smallDisk(kilobytes: number) {
  const folder = temporaryFolder();
  const mount = (...args: string[]) => execFileSync("mount", args, { stdio: "pipe" });
  try {
    mount("-t", "tmpfs", "-o", `size=${kilobytes}k`, "lockstep-test", folder);
  } catch {
    return null;
  }
  onTestFinished(() => void execFileSync("umount", ["--lazy", folder]));
  return { folder, grow: (more: number) => void mount("-o", `remount,size=${more}k`, folder) };
}
