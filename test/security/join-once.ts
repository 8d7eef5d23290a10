import type { JoinToken } from "../../shared/security/join-link.ts";
import { joinOnce } from "../../worker/security/obtain.ts";

/** Gets a certificate and does nothing with it: `node join-once.js host:port TOKEN`. */
const [address, token] = process.argv.slice(2);
await joinOnce(address!, JSON.parse(token!) as JoinToken, { incarnation: "eeeeeeeeeeeeeeee", name: "once" });
process.exit(0);
