import { connect } from "node:net";

/** How long a machine may take that is reached at all, in milliseconds. */
const PATIENCE = 3000;

/** What a connection to a port came to. */
export type Dialled =
  | { readonly kind: "reached"; readonly millis: number }
  | { readonly kind: "failed"; readonly why: string; readonly mend: string };

/** What the system says, in a person's words, and what to do. */
const MEANINGS: Readonly<Record<string, readonly [why: string, mend: string]>> = {
  ECONNREFUSED: ["nothing listens there", "start what should listen there, or mend the port"],
  EHOSTUNREACH: ["there is no way to that machine", "check its address, and that it is on"],
  ENETUNREACH: ["there is no way to that network", "check the address and this machine's routes"],
  ENOTFOUND: ["its name is not known", "use its address, or mend the name service"],
  EAI_AGAIN: ["its name cannot be looked up", "use its address, or mend the name service"],
  ECONNRESET: ["the connection was broken off", "a firewall or a proxy in between does that"],
};

/** Opens a connection and closes it. */
export function dialPort(host: string, port: number, patience = PATIENCE): Promise<Dialled> {
  const since = performance.now();
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: patience });
    const end = (dialled: Dialled) => {
      socket.destroy();
      resolve(dialled);
    };
    socket.on("connect", () => end({ kind: "reached", millis: performance.now() - since }));
    socket.on("timeout", () =>
      end({
        kind: "failed",
        why: `no answer in ${patience / 1000} s`,
        mend: "let the port through the firewalls in between (--ports on the machine that listens)",
      }),
    );
    socket.on("error", ({ code = "", message }: NodeJS.ErrnoException) => {
      const [why, mend] = MEANINGS[code] ?? [message, "check the network"];
      end({ kind: "failed", why, mend });
    });
  });
}
