import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { Authority } from "../../coordinator/security/authority.ts";
import { unary } from "../../shared/rpc/clients.ts";
import { type CertificateFiles, suppliedTrust } from "../../shared/security/supplied.ts";
import { A, B, dial, failure, greet, HOUR, scratchDirectory, secured, status } from "./support.ts";

/** Files as a company's authority would issue them: names of machines, no word of Lockstep. */
async function issue(authority: Authority, name: string, hosts: readonly string[]): Promise<CertificateFiles> {
  const directory = scratchDirectory();
  const made = await authority.equip({ role: "nats", name, hosts }, HOUR);
  const file = (kind: string, text: string) => {
    const path = join(directory, `${kind}.pem`);
    writeFileSync(path, text);
    return path;
  };
  return {
    authority: file("ca", made.authority),
    certificate: file("certificate", made.certificate),
    key: file("key", made.key),
  };
}

describe("supplied certificates", () => {
  it("let in whoever has one of the same authority, to work, and the coordinator's own machine to rule", async () => {
    const { authority } = await Authority.create("company");
    const supplied = await issue(authority, "first", ["127.0.0.1"]);
    const { address, stopped, security } = await secured({ supplied });
    const stop = (files: CertificateFiles) => {
      const request = { action: "stop", target: "", detail: "enough" };
      const client = dial(address, suppliedTrust(files));
      return failure(unary((done) => client.control(request, { deadline: Date.now() + 5000 }, done)));
    };
    const second = await issue(authority, "second", ["10.0.0.2"]);
    expect(JSON.parse((await status(dial(address, suppliedTrust(second)))).json)).toEqual({ here: true });
    expect(await stop(second)).toBe("LS_NOT_ALLOWED");
    expect(await stop(supplied)).toBe("no failure");
    expect(stopped).toEqual(["enough"]);
    expect(() => security.tokens).toThrow(expect.objectContaining({ code: "LS_NO_TOKENS" }));
  });

  it("are revoked for all workers that show the same one, and the coordinator's own one is not", async () => {
    const { authority } = await Authority.create("company");
    const supplied = await issue(authority, "first", ["127.0.0.1"]);
    const { address, access } = await secured({ supplied });
    const own = greet(address, suppliedTrust(supplied), A);
    const trust = suppliedTrust(await issue(authority, "second", ["10.0.0.2"]));
    const others = [greet(address, trust, B), greet(address, trust, "c".repeat(16))];
    await vi.waitFor(() => expect([own, ...others]).toEqual([["access"], ["access"], ["access"]]));
    const revoke = (target: string) => access.control({ action: "worker-revoke", target, detail: "" });
    expect(() => revoke(A)).toThrow(expect.objectContaining({ code: "LS_NOT_ALLOWED" }));
    revoke(B);
    await vi.waitFor(() => expect(others.map(([, next]) => next)).toEqual(["rejected", "rejected"]));
    expect(own).not.toContain("rejected");
  });

  it("are not believed where they are another authority's, or name another machine", async () => {
    const [ours, others] = [await Authority.create("company"), await Authority.create("others")];
    const supplied = await issue(ours.authority, "first", ["127.0.0.1"]);
    const { address } = await secured({ supplied });
    const stranger = await issue(others.authority, "second", ["127.0.0.1"]);
    expect(await failure(status(dial(address, suppliedTrust(stranger))))).not.toBe("no failure");
    const misnamed = await secured({ supplied: await issue(ours.authority, "first", ["10.9.9.9"]) });
    const second = await issue(ours.authority, "second", ["10.0.0.2"]);
    expect(await failure(status(dial(misnamed.address, suppliedTrust(second))))).toMatch(/CERT_ALTNAME_INVALID/);
  });
});
