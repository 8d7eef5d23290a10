import type { Command } from "commander";
import { usage } from "../../shared/config/options.ts";
import { LockstepError } from "../../shared/errors.ts";
import { parseLifetime } from "../../shared/security/tokens.ts";
import { runDirectory } from "../up/prepare.ts";
import { Probe } from "../up/probe.ts";

const MOST_NOTE = 200;

interface Listed {
  readonly id: string;
  readonly state: string;
  readonly expires: number | null;
  readonly uses: number | null;
  readonly note: string;
}

/** Adds `lockstep token`: who may join a run, asked of its coordinator. */
export function registerToken(program: Command): void {
  const token = program.command("token").description("who may join a run from other machines");
  token
    .command("create")
    .description("a new line by which workers join")
    .argument("<run>", "the run's directory, or its id below runs/")
    .option("--lifetime <time>", "30m, 24h, 7d or never", "24h")
    .option("--uses <n>", "how many workers may join by it (default: any number)")
    .option("--note <text>", "whom it is for", "")
    .action(async (run: string, options: { lifetime: string; uses?: string; note: string }) => {
      const uses = options.uses === undefined ? null : countOf(options.uses);
      if (options.note.length > MOST_NOTE) throw usage(`--note may have ${MOST_NOTE} characters.`);
      const detail = JSON.stringify({ lifetime: parseLifetime(options.lifetime), uses, note: options.note });
      process.stdout.write(`npx lockstep worker --join ${await ask(run, "token-create", "", detail)}\n`);
    });
  token
    .command("prepare")
    .description(
      "before a run begins: its authority, the line by which workers join and the pages' token, for --prepared",
    )
    .argument("<directory>", "a new one; it holds the authority's key")
    .requiredOption("--address <host:port>", "by which workers will reach the coordinator")
    .action(async (directory: string, { address }: { address: string }) => {
      // X.509 takes its time to load, and the other commands need none of it.
      const { prepareSecurity } = await import("../../coordinator/security/prepared.ts");
      await prepareSecurity(directory, address);
      process.stdout.write(
        `${directory} holds ca.pem, ca-key.pem, join and http-token.\n` +
          `Coordinator: npx lockstep up --prepared ${directory} …; workers need join alone: npx lockstep worker --join ${directory}/join\n`,
      );
    });
  token
    .command("list")
    .description("the tokens of a run, without their secrets")
    .argument("<run>", "the run's directory, or its id below runs/")
    .option("--json", "print one JSON array", false)
    .action(async (run: string, { json }: { json: boolean }) => {
      const answer = await ask(run, "token-list", "", "");
      process.stdout.write(json ? `${answer}\n` : tableOf(JSON.parse(answer) as Listed[]));
    });
  token
    .command("revoke")
    .description("a token lets nobody in any more; with --worker, a worker and the token by which it came")
    .argument("<run>", "the run's directory, or its id below runs/")
    .argument("[id]", "the token, as `list` names it")
    .option("--worker <name>", "a worker by its name or incarnation: it leaves at once and is not let in again")
    .action(async (run: string, id: string | undefined, { worker }: { worker?: string }) => {
      if ((id === undefined) === (worker === undefined)) throw usage("Give the id of a token, or --worker.");
      const said = await (worker === undefined
        ? ask(run, "token-revoke", id!, "")
        : ask(run, "worker-revoke", worker, ""));
      process.stdout.write(`${said}\n`);
    });
}

async function ask(run: string, action: string, target: string, detail: string): Promise<string> {
  const probe = Probe.ofDirectory(runDirectory(run), null);
  try {
    return await probe.control(action, target, detail);
  } catch (cause) {
    throw new LockstepError("LS_NO_ANSWER", `The coordinator says: ${(cause as Error).message}.`, {
      hint: "Tokens are its own: it has to run, and to listen beyond this machine. See `npx lockstep status`.",
      cause,
    });
  } finally {
    probe.close();
  }
}

function countOf(text: string): number {
  if (/^[1-9]\d{0,5}$/.test(text)) return Number(text);
  throw usage(`--uses must be a whole number of at least 1; it is "${text}".`);
}

function tableOf(tokens: readonly Listed[]): string {
  const rows = tokens.map(({ id, state, expires, uses, note }) => {
    const until = expires === null ? "never" : new Date(expires).toISOString().slice(0, 16).replace("T", " ");
    return `${id}  ${state.padEnd(7)}  ${until.padEnd(16)}  ${String(uses ?? "any").padEnd(4)}  ${note}`;
  });
  return `${["token     state    ends (UTC)        uses  for", ...rows].join("\n")}\n`;
}
