import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { parse } from "yaml";
import { scratchDirectory } from "../security/support.ts";
import { CHART, find, helm, type KubernetesObject, render } from "./chart.ts";

/** As much of an API server as Helm asks when it looks a Secret up; null: there is none. @returns the chart's Secret */
async function renderedBeside(secret: KubernetesObject | null): Promise<KubernetesObject> {
  const resources = [{ name: "secrets", singularName: "secret", namespaced: true, kind: "Secret", verbs: ["get"] }];
  const server = createServer(({ url = "" }, reply) => {
    const answer = (status: number, body: object) =>
      reply.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    if (/^\/api\/v1\/namespaces\/lab\/secrets\/x-lockstep-security/.test(url) && secret !== null)
      return answer(200, secret);
    if (/^\/api\/v1(\?|$)/.test(url))
      return answer(200, { kind: "APIResourceList", apiVersion: "v1", groupVersion: "v1", resources });
    return answer(404, { kind: "Status", apiVersion: "v1", status: "Failure", reason: "NotFound", code: 404 });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  const config = join(scratchDirectory(), "kubeconfig");
  const cluster = { server: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
  const named = { clusters: [{ name: "c", cluster }], users: [{ name: "u", user: {} }] };
  const contexts = [{ name: "c", context: { cluster: "c", user: "u" } }];
  writeFileSync(
    config,
    JSON.stringify({ apiVersion: "v1", kind: "Config", ...named, contexts, "current-context": "c" }),
  );
  const from = [
    "template",
    "x",
    CHART,
    "-n",
    "lab",
    "--kube-version",
    "1.34.0",
    "--show-only",
    "templates/secret.yaml",
  ];
  const child = spawn(helm!, [...from, "--dry-run=server", "--kubeconfig", config], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let text = "";
  child.stdout.on("data", (data) => {
    text += data;
  });
  const code = await new Promise((resolve) => child.once("close", resolve));
  expect(code).toBe(0);
  return parse(text) as KubernetesObject;
}

describe.skipIf(helm === null)(`the chart's Secret${helm === null ? " (skipped: helm is not installed)" : ""}`, () => {
  it("stays what it was, over every later upgrade", async () => {
    const { stringData, ...rest } = find(render({}, "x"), "Secret", "x-lockstep-security");
    const data = Object.fromEntries(
      Object.entries(stringData!).map(([name, text]) => [name, Buffer.from(text).toString("base64")]),
    );
    expect((await renderedBeside({ ...rest, data })).stringData).toEqual(stringData);
    expect(rest.metadata.annotations).toEqual({ "helm.sh/resource-policy": "keep" });
    // Ports and names of the chart may change; token and authority do not.
    const old = Buffer.from(stringData!.join!.replace(/\/\/.*\//, "//elsewhere:1/")).toString("base64");
    expect((await renderedBeside({ ...rest, data: { ...data, join: old } })).stringData).toEqual(stringData);
  });

  it("is made where there is none", async () => {
    const made = await renderedBeside(null);
    expect(made.stringData!.join).toMatch(
      /^lockstep:\/\/x-lockstep-coordinator\.lab\.svc:7401\/ls1-[0-9a-f]{64}-[0-9a-f]{8}-[0-9a-f]{32}$/,
    );
    expect(made.stringData!["http-token"]).toMatch(/^[0-9a-f]{48}$/);
  });
});
