import { onPath } from "./up.ts";

/** Path of nats-server: from PATH, else what setup has fetched; null without either. */
export async function natsProgram(): Promise<string | null> {
  return onPath("nats-server");
}
