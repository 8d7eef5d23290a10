import { createPrivateKey } from "node:crypto";
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { adoptPrepared, prepareSecurity } from "../../coordinator/security/prepared.ts";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { parseLink } from "../../shared/security/join-link.ts";
import { joinOnce } from "../../worker/security/obtain.ts";
import { SMALL_SET } from "../up/runs.ts";
import { lockstep } from "../up/support.ts";
import { joiner, scratchDirectory, secured } from "./support.ts";

const ADDRESS = "trainer.example:7401";
const code = (name: string, message = "") =>
  expect.objectContaining({ code: name, message: expect.stringContaining(message) });

async function prepared(): Promise<string> {
  const directory = join(scratchDirectory(), "given");
  await prepareSecurity(directory, ADDRESS);
  return directory;
}
const read = (directory: string, name: string) => readFileSync(join(directory, name), "utf8").trim();

function messageOf(work: () => void): string {
  try {
    work();
    return "";
  } catch (error) {
    return (error as Error).message;
  }
}

describe("up --prepared", () => {
  it("is refused where nothing is secured, or certificates are supplied", async () => {
    const place = scratchDirectory();
    await writeSynthetic(join(place, "data"), SMALL_SET);
    const given = await prepared();
    const up = (...more: string[]) =>
      lockstep(["up", "--data", join(place, "data"), "--out", join(place, "run"), "--prepared", given, ...more]);
    const [open, supplied] = [up(), up("--tls-ca", "a", "--tls-cert", "b", "--tls-key", "c")];
    expect((await open.ended).code, open.err()).toBe(2);
    expect(open.err()).toContain("--prepared is for runs that are secured");
    expect((await supplied.ended).code, supplied.err()).toBe(2);
    expect(supplied.err()).toContain("--prepared is for runs without certificates of your own");
  });
});

describe("what is prepared for a run", () => {
  it("is its owner's alone, and leads to the address", async () => {
    const directory = await prepared();
    for (const name of ["ca.pem", "ca-key.pem", "join", "http-token"])
      expect(statSync(join(directory, name)).mode & 0o777).toBe(0o600);
    expect(statSync(directory).mode & 0o777).toBe(0o700);
    expect(parseLink(read(directory, "join")).address).toBe(ADDRESS);
    await expect(prepareSecurity(directory, ADDRESS)).rejects.toEqual(code("LS_USAGE", "not empty"));
    await expect(prepareSecurity(join(directory, "x"), "trainer")).rejects.toEqual(code("LS_USAGE", "host:port"));
  });

  it("lets workers of the run in by its line, and others by none", async () => {
    const given = await prepared();
    const { token } = parseLink(read(given, "join"));
    const run = scratchDirectory();
    adoptPrepared(run, given);
    const { address, security } = await secured({ directory: run });
    expect(security.httpToken).toBe(read(given, "http-token"));
    const { credentials } = await joinOnce(address, token!, joiner);
    expect(credentials.authority.trim()).toBe(read(given, "ca.pem"));
    const other = parseLink(read(await prepared(), "join")).token!;
    await expect(joinOnce(address, other, joiner)).rejects.toEqual(code("LS_WRONG_AUTHORITY"));
    await expect(joinOnce(address, { ...other, authority: token!.authority }, joiner)).rejects.toEqual(
      code("LS_TOKEN_UNKNOWN"),
    );
  });

  it("given again brings nothing back that was revoked or changed", async () => {
    const given = await prepared();
    const { token } = parseLink(read(given, "join"));
    const run = scratchDirectory();
    adoptPrepared(run, given);
    const first = await secured({ directory: run });
    first.security.revokeWorker(
      { role: "worker", incarnation: joiner.identity.incarnation, serial: "", token: token!.id },
      "a",
    );
    const changed = first.security.httpToken;
    expect(changed).not.toBe(read(given, "http-token"));
    adoptPrepared(run, given);
    const second = await secured({ directory: run });
    expect(second.security.httpToken).toBe(changed);
    await expect(joinOnce(second.address, token!, joiner)).rejects.toEqual(code("LS_TOKEN_REVOKED"));
  });

  it("takes the place of another authority, with all tokens of that one", async () => {
    const run = scratchDirectory();
    const before = await secured({ directory: run });
    const old = before.token(null);
    const given = await prepared();
    adoptPrepared(run, given);
    const { address, security } = await secured({ directory: run });
    const { token } = parseLink(read(given, "join"));
    expect(security.authorityHash).toBe(token!.authority);
    expect(security.httpToken).toBe(read(given, "http-token"));
    await joinOnce(address, token!, joiner);
    await expect(joinOnce(address, old, joiner)).rejects.toEqual(code("LS_WRONG_AUTHORITY"));
    await expect(joinOnce(address, { ...old, authority: token!.authority }, joiner)).rejects.toEqual(
      code("LS_TOKEN_UNKNOWN"),
    );
  });

  it("may come from other programs, in OpenSSL's form of keys", async () => {
    const given = await prepared();
    const key = createPrivateKey(read(given, "ca-key.pem")).export({ type: "sec1", format: "pem" });
    expect(key.toString()).toContain("BEGIN EC PRIVATE KEY");
    writeFileSync(join(given, "ca-key.pem"), key);
    const run = scratchDirectory();
    adoptPrepared(run, given);
    const { address } = await secured({ directory: run });
    await joinOnce(address, parseLink(read(given, "join")).token!, joiner);
  });

  it.each([
    ["ca.pem", "no certificate", "its authority cannot be read"],
    ["ca-key.pem", "no key", "its key cannot be read"],
    ["join", "lockstep://a:1/ls1-cut", "its join line is not whole"],
    ["http-token", "short", "its http-token"],
  ])("is refused where %s is wrong, without showing what is in it", async (name, text, words) => {
    const given = await prepared();
    writeFileSync(join(given, name), text);
    expect(() => adoptPrepared(scratchDirectory(), given)).toThrow(code("LS_PREPARED", words));
    expect(messageOf(() => adoptPrepared(scratchDirectory(), given))).not.toContain(text);
  });

  it.each(["ca.pem", "ca-key.pem", "join"])("is refused where %s is that of another run", async (name) => {
    const [given, other] = [await prepared(), await prepared()];
    writeFileSync(join(given, name), read(other, name));
    const run = scratchDirectory();
    expect(() => adoptPrepared(run, given)).toThrow(code("LS_PREPARED"));
    mkdirSync(join(given, "empty"));
    expect(() => adoptPrepared(run, join(given, "empty"))).toThrow(code("LS_PREPARED", "ENOENT"));
  });
});
