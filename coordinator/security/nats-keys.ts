import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { natsAccess, natsFileSchema } from "../../shared/broadcast/nats-file.ts";
import type { NatsAccess } from "../../shared/protocol/messages.ts";
import { SecurityFiles } from "./security-files.ts";

/**
 * The password by which workers publish. `up` has written it, with the configuration of the server that it started; it is
 * another one once a worker was revoked who knew it.
 */
export class NatsKeys {
  readonly #files: SecurityFiles;
  #access: NatsAccess;

  private constructor(files: SecurityFiles, access: NatsAccess) {
    this.#files = files;
    this.#access = access;
  }

  /** null where the server asks for nothing. @throws what its file cannot be read for */
  static open(runDirectory: string, url: string): NatsKeys | null {
    if (!url.startsWith("tls://")) return null;
    const files = new SecurityFiles(runDirectory);
    const access = natsAccess(files.at("nats.json"), url);
    if (access === null) return null;
    const keys = new NatsKeys(files, access);
    // Another coordinator may have ended between the two halves of a change.
    keys.reload();
    return keys;
  }

  get access(): NatsAccess {
    return this.#access;
  }

  /** Another password, for whoever reads the files from now on; the server takes it with `reload`. False where it could not be. */
  renew(): boolean {
    const password = randomBytes(16).toString("hex");
    try {
      const known = natsFileSchema.parse(JSON.parse(readFileSync(this.#files.at("nats.json"), "utf8")));
      const configuration = readFileSync(this.#files.at("nats.conf"), "utf8");
      const changed = configuration.replaceAll(known.worker.password, password);
      if (changed === configuration || this.#server() === null) return false;
      const next = { ...known, worker: { ...known.worker, password } };
      this.#files.writeText("nats.conf", changed);
      this.#files.writeText("nats.json", JSON.stringify(next, null, 2));
    } catch {
      return false;
    }
    this.#access = { ...this.#access, password };
    return true;
  }

  /** The server reads its configuration again, and lets those go who came by another password. */
  reload(): void {
    const server = this.#server();
    if (server === null) return;
    try {
      process.kill(server, "SIGHUP");
    } catch {
      // It has ended: the next one reads what is written now.
    }
  }

  /** Process id of the server on this machine; null where there is none. */
  #server(): number | null {
    try {
      const pid = Number(readFileSync(this.#files.at("nats.pid"), "utf8").trim());
      // The number may be somebody else's by now.
      const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      const file = resolve(this.#files.at("nats.conf"));
      return command.some((argument) => resolve(argument) === file) ? pid : null;
    } catch {
      return null;
    }
  }
}
