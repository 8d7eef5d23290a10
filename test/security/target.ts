import type { Endpoints, Probe } from "../../deploy/up/probe.ts";
import { type JoinToken, parseLink } from "../../shared/security/join-link.ts";
import { joinOnce, newIdentity } from "../../worker/security/obtain.ts";
import type { Target } from "./attempt.ts";

/** What attackers may know of a run: where it listens; tokens that let nobody in any more, and one that does. */
export async function layOut(probe: Probe, { coordinator, nats = null }: Endpoints): Promise<Target> {
  const token = async (lifetime: number | null, uses: number | null): Promise<JoinToken> =>
    parseLink(await probe.control("token-create", "", JSON.stringify({ lifetime, uses, note: "" }))).token!;
  const dead = { expired: await token(1, null), used: await token(null, 1), revoked: await token(null, null) };
  const tokens = { ...dead, insider: await token(60_000, null) };
  await joinOnce(coordinator, tokens.used, { identity: newIdentity(), name: "once" });
  await probe.control("token-revoke", tokens.revoked.id, "");
  const status = await probe.status();
  if (status === null) throw new Error("the coordinator does not answer");
  return { run: status.run, coordinator, nats, members: status.workers.map(({ address }) => address), tokens };
}
