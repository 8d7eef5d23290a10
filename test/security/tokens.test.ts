import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { Tokens } from "../../coordinator/security/token-book.ts";
import { joinOf } from "../../deploy/cli/worker.ts";
import { builtProgram } from "../../deploy/up/built.ts";
import { formatLink, parseLink } from "../../shared/security/join-link.ts";
import { parseLifetime, secretHash, type TokenRecord, tokenState, useToken } from "../../shared/security/tokens.ts";
import { parseWorkerOptions } from "../../worker/options.ts";
import { scratchDirectory } from "./support.ts";

const HASH = "ab".repeat(32);
const SECRET = "0123456789abcdef0123456789abcdef";
const record = (more: Partial<TokenRecord> = {}): TokenRecord => ({
  ...{ id: "11112222", secretSha256: secretHash(SECRET), expires: 1000, uses: null, revoked: false, note: "" },
  ...more,
});
const code = (name: string) => expect.objectContaining({ code: name });

describe("the link by which a machine joins", () => {
  it.each([
    ["10.0.0.1", "lockstep://10.0.0.1:7400/"],
    ["fd00::1", "lockstep://[fd00::1]:7400/"],
    ["trainer.example", "lockstep://trainer.example:7400/"],
  ])("holds address and token of %s", (host, beginning) => {
    const token = { authority: HASH, id: "11112222", secret: SECRET };
    const link = formatLink(host, 7400, token);
    expect(link).toBe(`${beginning}ls1-${HASH}-11112222-${SECRET}`);
    expect(parseLink(link)).toEqual({ address: beginning.slice(11, -1), token });
  });

  it("is read from a file that holds the printed line, and reaches the worker's process past its arguments", () => {
    const link = formatLink("10.0.0.1", 7400, { authority: HASH, id: "11112222", secret: SECRET });
    const file = join(scratchDirectory(), "line");
    writeFileSync(file, `npx lockstep worker --join ${link}\n`);
    expect(joinOf(file, false)).toBe(link);
    expect(parseWorkerOptions([], { LOCKSTEP_JOIN: link }).join).toBe(link);
    writeFileSync(file, "something else\n");
    expect(() => joinOf(file, false)).toThrow(code("LS_USAGE"));
  });

  it("comes from the environment or standard input as well, and is no argument that others can read", async () => {
    const link = formatLink("127.0.0.1", 1, { authority: HASH, id: "11112222", secret: SECRET });
    const start = (join_: string[], env: Record<string, string> = {}) => {
      const args = [builtProgram("deploy/cli/main.js"), "worker", ...join_];
      const child = spawn(process.execPath, args, {
        stdio: ["pipe", "ignore", "pipe"],
        env: { ...process.env, ...env },
      });
      onTestFinished(() => void child.kill("SIGKILL"));
      let said = "";
      child.stderr.on("data", (text) => {
        said += String(text);
      });
      return { child, said: () => said };
    };
    // Nobody listens there: it waits.
    const typed = start(["--join", link]);
    const piped = start(["--join", "-"]);
    piped.child.stdin.end(`npx lockstep worker --join ${link}\n`);
    const set = start([], { LOCKSTEP_JOIN: link });
    for (const { child, said } of [typed, piped, set]) {
      await vi.waitFor(() => expect(said()).toContain("waits to join"), 30_000);
      expect(readFileSync(`/proc/${child.pid}/cmdline`, "utf8")).not.toContain(SECRET);
      const worker = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").trim().split(" ")[0];
      const command = readFileSync(`/proc/${worker}/cmdline`, "utf8");
      expect(command).toContain("worker/main.js");
      expect(command).not.toContain(SECRET);
      expect(said()).toContain("127.0.0.1:1 cannot be reached");
      expect(said()).not.toContain(SECRET);
    }
  }, 60_000);

  it("may have no token, where certificates are supplied", () => {
    expect(parseLink("lockstep://10.0.0.1:7400")).toEqual({ address: "10.0.0.1:7400", token: null });
  });

  it.each([
    ["http://10.0.0.1:7400/x", "lockstep://host:port/token"],
    ["lockstep://10.0.0.1/x", "not host:port"],
    ["lockstep://10.0.0.1:99999/x", "not host:port"],
    [`lockstep://10.0.0.1:7400/ls1-${HASH}-11112222-${SECRET.slice(1)}`, "cut off"],
    [`lockstep://10.0.0.1:7400/ls2-${HASH}-11112222-${SECRET}`, "another version"],
    [`lockstep://10.0.0.1:7400/${"x".repeat(5000)}`, "characters"],
  ])("%s is refused, and its secret is not repeated", (link, words) => {
    const failure = (() => {
      try {
        parseLink(link);
        return null;
      } catch (error) {
        return error as Error & { toLine(): string };
      }
    })();
    expect(failure).toMatchObject({ code: "LS_JOIN_LINK", exitCode: 2, message: expect.stringContaining(words) });
    expect(failure?.toLine()).not.toContain(SECRET.slice(1));
  });
});

describe("a token", () => {
  it("lets in until it ends, as often as it may, unless it is revoked", () => {
    expect(useToken([record()], "11112222", SECRET, 999)).toEqual(record());
    expect(useToken([record({ uses: 2 })], "11112222", SECRET, 999)).toEqual(record({ uses: 1 }));
    expect(useToken([record({ expires: null })], "11112222", SECRET, 1e15)).toEqual(record({ expires: null }));
    const refused = (more: Partial<TokenRecord>, now: number) => () =>
      useToken([record(more)], "11112222", SECRET, now);
    expect(refused({}, 1000)).toThrow(code("LS_TOKEN_EXPIRED"));
    expect(refused({ uses: 0 }, 1)).toThrow(code("LS_TOKEN_USED"));
    expect(refused({ revoked: true }, 1)).toThrow(code("LS_TOKEN_REVOKED"));
    expect(tokenState(record(), 1000)).toBe("expired");
  });

  it("says nothing of its state to whoever does not know its secret", () => {
    const dead = [record({ revoked: true })];
    expect(() => useToken(dead, "11112222", SECRET.replace("0", "1"), 1)).toThrow(code("LS_TOKEN_UNKNOWN"));
    expect(() => useToken(dead, "33334444", SECRET, 1)).toThrow(code("LS_TOKEN_UNKNOWN"));
    expect(() => useToken([], "11112222", "", 1)).toThrow(code("LS_TOKEN_UNKNOWN"));
  });

  it.each([
    ["30m", 1_800_000],
    ["24h", 86_400_000],
    ["7d", 604_800_000],
    ["never", null],
  ])("lives %s", (text, millis) => expect(parseLifetime(text)).toBe(millis));

  it.each(["", "24", "0h", "-1h", "1y"])("does not live %j", (text) =>
    expect(() => parseLifetime(text)).toThrow(code("LS_USAGE")),
  );
});

describe("the tokens of a run", () => {
  it("are written with every change, without their secrets, and outlive their keeper", () => {
    let written: readonly TokenRecord[] = [];
    const writeTokens = (list: readonly TokenRecord[]) => {
      written = list;
    };
    const file = { readTokens: () => written, writeTokens };
    const { id, secret } = new Tokens(file).create(HASH, { lifetime: 500, uses: 1, note: "lab" }, 100);
    expect(written).toEqual([
      { id, secretSha256: secretHash(secret), expires: 600, uses: 1, revoked: false, note: "lab" },
    ]);
    expect(JSON.stringify(written)).not.toContain(secret);
    const later = new Tokens(file);
    later.replace(useToken(later.list, id, secret, 200));
    expect(() => useToken(new Tokens(file).list, id, secret, 300)).toThrow(code("LS_TOKEN_USED"));
    later.revoke(id);
    expect(() => useToken(new Tokens(file).list, id, secret, 300)).toThrow(code("LS_TOKEN_REVOKED"));
    expect(() => later.revoke("00000000")).toThrow(code("LS_TOKEN_UNKNOWN"));
  });

  it("are bounded: dead ones make room, living ones do not", () => {
    let written: readonly TokenRecord[] = [];
    const tokens = new Tokens({
      readTokens: () => [],
      writeTokens: (list) => {
        written = list;
      },
    });
    const create = (now: number) => tokens.create(HASH, { lifetime: 10, uses: null, note: "" }, now);
    for (let n = 0; n < 256; n++) create(0);
    expect(() => create(5)).toThrow(code("LS_TOO_MANY_TOKENS"));
    create(20);
    expect(written).toHaveLength(1);
  });
});
