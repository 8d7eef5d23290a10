import { randomBytes } from "node:crypto";
import { createServer } from "node:net";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { SecurityFiles } from "../../coordinator/security/security-files.ts";
import { natsFileSchema } from "../../shared/broadcast/nats-file.ts";
import { advertisedHost, bindFirst, hostPort, parsePorts } from "../../shared/process/addresses.ts";
import type { NetworkOptions } from "./network-options.ts";

/** NATS reads its certificate when it starts; a run lasts less than this, in milliseconds. */
const CERTIFICATE_MILLIS = 365 * 86_400_000;
/** Names of the server in its certificate beside its address; a client that knows no address of it checks the last one. */
const HERE = ["127.0.0.1", "localhost"];

/** What a NATS server needs that others than this machine can reach. */
export interface SecureNats {
  /** Path of the server's configuration. */
  readonly file: string;
  /** tls://host:port */
  readonly url: string;
}

/**
 * Writes the configuration of a run's own NATS server: TLS with a certificate of the run's authority, a user for workers
 * who may only publish, and one for watchers who may only listen. All of it is the owner's alone.
 */
export async function secureNats(
  directory: string,
  run: string,
  listen: string,
  network: NetworkOptions,
): Promise<SecureNats> {
  const files = new SecurityFiles(directory);
  const authority = await files.authority(run);
  const host = advertisedHost(listen, network.advertise, networkInterfaces());
  const equipped = await authority.equip(
    { role: "nats", name: "nats", hosts: [...new Set([host, ...HERE])] },
    CERTIFICATE_MILLIS,
  );
  const port = await freePort(listen, network.ports);
  const url = `tls://${hostPort(host, port)}`;
  const known = files.readNats(natsFileSchema);
  const password = () => randomBytes(16).toString("hex");
  const access = natsFileSchema.parse({
    url,
    authority: authority.certificate,
    // Workers hear it over their sessions; one that was revoked knows the one before.
    worker: { user: "worker", password: password() },
    watch: known?.watch ?? { user: "watch", password: password() },
  });
  files.writeText("nats.pem", equipped.certificate);
  files.writeText("nats-key.pem", equipped.key);
  files.writeText("nats.json", JSON.stringify(access, null, 2));
  files.writeText("watch.json", JSON.stringify({ url, authority: access.authority, ...access.watch }, null, 2));
  files.writeText("nats.conf", configuration(listen, port, directory, access));
  return { file: files.at("nats.conf"), url };
}

type Access = ReturnType<typeof natsFileSchema.parse>;

function configuration(listen: string, port: number, directory: string, { worker, watch }: Access): string {
  const quoted = (text: string) => JSON.stringify(text);
  const path = (name: string) => quoted(join(directory, "security", name));
  const user = ({ user, password }: Access["worker"], permissions: string) =>
    `    { user: ${user}, password: ${quoted(password)}, permissions: { ${permissions} } }`;
  return [
    `host: ${quoted(listen)}`,
    `port: ${port}`,
    // A coordinator that revokes a worker has the server read this file again.
    `pid_file: ${path("nats.pid")}`,
    "max_connections: 4096",
    "max_payload: 1048576",
    "max_pending: 16777216",
    'write_deadline: "5s"',
    `tls { cert_file: ${path("nats.pem")}, key_file: ${path("nats-key.pem")}, timeout: 5 }`,
    "authorization {",
    "  timeout: 5",
    "  users: [",
    user(worker, 'publish: "lockstep.v1.>", subscribe: { deny: ">" }'),
    user(watch, 'publish: { deny: ">" }, subscribe: "lockstep.v1.>"'),
    "  ]",
    "}",
  ].join("\n");
}

/** A port that is free now; NATS keeps it over restarts. */
async function freePort(host: string, range: string | null): Promise<number> {
  return bindFirst(range === null ? { from: 0, to: 0 } : parsePorts(range), (port) => {
    const server = createServer();
    return new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen(port, host, () => {
        const bound = (server.address() as { port: number }).port;
        server.close(() => resolve(bound));
      });
    });
  });
}
