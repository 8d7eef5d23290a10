import type { JoinToken } from "../../shared/security/join-link.ts";
import { joinOnce, newIdentity } from "../../worker/security/obtain.ts";

/** Gets a certificate and does nothing with it: `node join-once.js host:port TOKEN`. */
const [address, token] = process.argv.slice(2);
await joinOnce(address!, JSON.parse(token!) as JoinToken, { identity: newIdentity(), name: "once" });
process.exit(0);
