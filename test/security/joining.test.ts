import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { splitAddress } from "../../shared/process/addresses.ts";
import { unary } from "../../shared/rpc/clients.ts";
import { joinOnce, joinRun, newIdentity } from "../../worker/security/obtain.ts";
import { A, B, codeOf, dial, failure, joiner, secured, status } from "./support.ts";

describe("joining a secured coordinator", () => {
  it("takes a token alone, and gives what all calls then need", async () => {
    const { address, join: enter } = await secured();
    const trust = await enter(A);
    expect(JSON.parse((await status(dial(address, trust))).json)).toEqual({ here: true });
    expect(trust.current.key).toContain("PRIVATE KEY");
  });

  it("is refused with tokens that have expired, are used up, revoked or unknown", async () => {
    const { address, access, token } = await secured();
    const join_ = (by: ReturnType<typeof token>) => failure(joinOnce(address, by, joiner));
    const short = token(1);
    await vi.waitFor(async () => expect(await join_(short)).toBe("LS_TOKEN_EXPIRED"));
    const once = token(null, 1);
    expect(await join_(once)).toBe("no failure");
    expect(await join_(once)).toBe("LS_TOKEN_USED");
    const gone = token();
    access.control({ action: "token-revoke", target: gone.id, detail: "" });
    expect(await join_(gone)).toBe("LS_TOKEN_REVOKED");
    expect(await join_({ ...token(), secret: "0".repeat(32) })).toBe("LS_TOKEN_UNKNOWN");
  });

  it("is refused to whoever would be a worker that is there, also with a valid token", async () => {
    const { address, token, join: enter } = await secured();
    await enter(A);
    const another = { ...newIdentity(), incarnation: A };
    expect(await failure(joinOnce(address, token(), { identity: another, name: "a" }))).toBe("LS_MALFORMED");
    // The worker itself comes in again, when its certificate has ended or an answer was lost.
    expect(await failure(joinOnce(address, token(), joiner))).toBe("no failure");
  });

  it("sends nothing to another run, which cannot know the authority that the token names", async () => {
    const [mine, theirs] = [await secured(), await secured()];
    expect(await failure(joinOnce(theirs.address, mine.token(), joiner))).toBe("LS_WRONG_AUTHORITY");
    expect(theirs.refusals).toEqual([]);
  });

  it("is given up in the end where nobody answers, as what may be tried again", async () => {
    const { token } = await secured();
    const waits: string[] = [];
    const nowhere = joinRun(
      () => null,
      token(),
      joiner,
      (why) => waits.push(why),
      300,
    );
    await expect(nowhere).rejects.toMatchObject({ code: "LS_UNREACHABLE", exitCode: 1 });
    expect(waits.length).toBeGreaterThan(0);
  });

  it("is bounded in its rate, and those who came before do not notice", async () => {
    // Time stands still: how fast the guesses come is not this machine's business.
    const { address, token, join: enter } = await secured({ clock: () => 0 });
    const client = dial(address, await enter(A));
    const wrong = { ...token(), secret: "0".repeat(32) };
    const seen = new Set<string>();
    for (let n = 0; n < 60; n++) seen.add(await failure(joinOnce(address, wrong, joiner)));
    expect([...seen].filter((code) => code !== "LS_TOKEN_UNKNOWN" && code !== "LS_UNREACHABLE")).toEqual([
      "LS_TOO_MANY_JOINS",
    ]);
    expect(JSON.parse((await status(client)).json)).toEqual({ here: true });
  });

  it("leaves files that are the owner's alone, and the same authority for whoever takes over", async () => {
    const first = await secured();
    const files = readdirSync(join(first.directory, "security"));
    expect(files).toContain("authority.json");
    expect(statSync(join(first.directory, "security")).mode & 0o777).toBe(0o700);
    for (const file of files) expect(statSync(join(first.directory, "security", file)).mode & 0o777, file).toBe(0o600);
    const token = first.token();
    const trust = await first.join(A, token);
    const second = await secured({ directory: first.directory });
    expect(second.security.authorityHash).toBe(first.security.authorityHash);
    expect(await failure(joinOnce(second.address, token, joiner))).toBe("no failure");
    expect(JSON.parse((await status(dial(second.address, trust))).json)).toEqual({ here: true });
  });
});

describe("who may do what", () => {
  it("a worker may not stop a run, and a coordinator's files may", async () => {
    const { address, stopped, join: enter } = await secured();
    const worker = dial(address, await enter(A));
    const stop = () => {
      const deadline = Date.now() + 5000;
      return unary((done) => worker.control({ action: "stop", target: "", detail: "x" }, { deadline }, done));
    };
    expect(await failure(stop())).toBe("LS_NOT_ALLOWED");
    expect(stopped).toEqual([]);
  });

  it("a session is that of the certificate's worker", async () => {
    const { address, hellos, refused, join: enter } = await secured();
    const client = dial(address, await enter(A));
    const session = client.session();
    const heard = new Promise<string>((resolve) => {
      session.on("data", (envelope: { rejected?: { code: string } }) => resolve(envelope.rejected?.code ?? ""));
      session.on("error", (error) => resolve(codeOf(error)));
    });
    const hello = {
      ...{ incarnation: B, name: "b", host: "h", pid: 1, version: "0", address: "127.0.0.1:1", httpAddress: "" },
      ...{ labels: {}, promised: null, standing: null },
    };
    session.write({ kind: "hello", hello });
    expect(await heard).toBe("LS_WRONG_INCARNATION");
    expect(hellos).toEqual([]);
    expect(refused).toHaveLength(1);
  });

  it("a worker without a certificate reaches nothing but the way to get one", async () => {
    const { address } = await secured();
    const { host, port } = splitAddress(address)!;
    expect(host).toBe("127.0.0.1");
    expect(port).toBeGreaterThan(0);
    expect(await failure(status(dial(address, null)))).toMatch(/UNAVAILABLE|connection|reset|connect/i);
  });
});
