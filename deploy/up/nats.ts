import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LockstepError } from "../../shared/errors.ts";
import { lastWordsIn } from "./child.ts";
import { Keeper } from "./keeper.ts";
import type { GroupWatch } from "./reaper.ts";
import { NATS_POLICY } from "./restart-policy.ts";
import type { SecureNats } from "./secure-nats.ts";

const START_MILLIS = 10_000;
/** The server takes a free port and writes into --ports_file_dir which one. */
const ANY = "-1";

export interface NatsServer {
  readonly url: string;
  readonly keeper: Keeper;
}

/**
 * Starts a NATS server of our own: on loopback, on a port that nobody has, storing nothing. After a crash it comes back on
 * the same port.
 * @param secured where others than this machine can reach it
 * @throws LockstepError LS_NATS where it does not come up.
 */
export async function startNats(
  program: string,
  logFile: string,
  groups: GroupWatch,
  note: (text: string) => void,
  secured: SecureNats | null = null,
): Promise<NatsServer> {
  const ports = mkdtempSync(join(tmpdir(), "lockstep-nats-"));
  let port = ANY;
  const place = () => (secured === null ? ["-a", "127.0.0.1", "-p", port] : ["-c", secured.file]);
  let ready = false;
  let died = () => {};
  const death = new Promise<never>((_, reject) => {
    died = () => reject(notUp(lastWordsOf(logFile)));
  });
  death.catch(() => {});
  const keeper = new Keeper(
    {
      name: "nats-server",
      command: () => [program, ...place(), ...(port === ANY ? ["--ports_file_dir", ports] : [])],
      env: {},
      logFile,
      background: true,
    },
    NATS_POLICY,
    groups,
    { note: (text) => (ready ? note(text) : died()), over: () => died() },
  );
  keeper.start();
  try {
    const url = await Promise.race([portOf(ports), death]);
    ready = true;
    port = new URL(url).port;
    return { url: secured?.url ?? url, keeper };
  } catch (error) {
    await keeper.stop(1000);
    throw error;
  } finally {
    rmSync(ports, { recursive: true, force: true });
  }
}

/** The server writes nats-server_<pid>.ports once it listens. */
async function portOf(directory: string): Promise<string> {
  const deadline = performance.now() + START_MILLIS;
  while (performance.now() < deadline) {
    const file = existsSync(directory) ? readdirSync(directory).find((name) => name.endsWith(".ports")) : undefined;
    const url = file === undefined ? null : urlIn(join(directory, file));
    if (url !== null) return url;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw notUp(`it does not listen after ${START_MILLIS / 1000} s`);
}

const notUp = (why: string | null) =>
  new LockstepError("LS_NATS", `nats-server does not come up${why === null ? "" : `: ${why}`}.`, {
    hint: "See `npx lockstep doctor`.",
    exitCode: 3,
  });

function lastWordsOf(logFile: string): string | null {
  try {
    return lastWordsIn(readFileSync(logFile, "utf8"));
  } catch {
    return null;
  }
}

function urlIn(file: string): string | null {
  try {
    const { nats, tls } = JSON.parse(readFileSync(file, "utf8")) as {
      readonly tls?: readonly string[];
      readonly nats?: readonly string[];
    };
    return nats?.[0] ?? tls?.[0] ?? null;
  } catch {
    return null; // Half written.
  }
}
