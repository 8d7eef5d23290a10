import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { FastifyInstance, FastifyReply } from "fastify";
import type { Status } from "../account.ts";
import type { RunHistory } from "./history.ts";

/** Nothing is loaded from elsewhere, nothing runs that is not in page.js, nobody may frame it. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const FILES = {
  "/": ["page.html", "text/html; charset=utf-8"],
  "/page.css": ["page.css", "text/css; charset=utf-8"],
  "/page.js": ["page.js", "text/javascript; charset=utf-8"],
} as const;

export interface LiveParts {
  status(): Status;
  readonly history: RunHistory;
}

/** The live page of a run, and the two documents that it asks for again and again. */
export function serveLive(server: FastifyInstance, { status, history }: LiveParts): void {
  const guarded = (reply: FastifyReply) =>
    reply
      .header("content-security-policy", POLICY)
      .header("x-content-type-options", "nosniff")
      .header("referrer-policy", "no-referrer")
      .header("cache-control", "no-store");
  for (const [path, [file, type]] of Object.entries(FILES)) {
    const content = readFileSync(join(import.meta.dirname, file));
    server.get(path, (_request, reply) => guarded(reply).type(type).send(content));
  }
  server.get("/status.json", (_request, reply) => guarded(reply).send(status()));
  server.get("/history.json", (_request, reply) =>
    guarded(reply).send({
      points: history.points.map(({ step, time, images, correct, loss }) => [
        step,
        time,
        images,
        loss === null ? null : loss / Math.max(1, images),
        correct / Math.max(1, images),
      ]),
      validations: history.validations.map(({ step, accuracy }) => [step, accuracy]),
      events: history.happenings,
    }),
  );
}
