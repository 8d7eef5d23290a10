import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DASHBOARDS } from "../../deploy/grafana/source/dashboards.ts";
import { docker, whyNoDocker } from "./docker.ts";
import { fileOf } from "./names.ts";

const IMAGE = "grafana/grafana:11.4.0";
const PORT = 3000;

/** A real Grafana with the provisioning of deploy/grafana; nothing answers behind its data source. */
describe.skipIf(!docker)(`Grafana, provisioned with the dashboards${whyNoDocker}`, () => {
  let url: string;
  let stop: () => Promise<unknown>;

  beforeAll(async () => {
    const { GenericContainer, Wait } = await import("testcontainers");
    const container = await new GenericContainer(IMAGE)
      .withExposedPorts(PORT)
      .withEnvironment({
        LOCKSTEP_PROMETHEUS: "http://127.0.0.1:9090",
        LOCKSTEP_DASHBOARDS: "/lockstep/dashboards",
        GF_PATHS_PROVISIONING: "/lockstep/provisioning",
        GF_AUTH_ANONYMOUS_ENABLED: "true",
        GF_AUTH_ANONYMOUS_ORG_ROLE: "Admin",
      })
      .withCopyDirectoriesToContainer([
        { source: fileOf("deploy/grafana/dashboards"), target: "/lockstep/dashboards" },
        { source: fileOf("deploy/grafana/provisioning"), target: "/lockstep/provisioning" },
      ])
      .withWaitStrategy(Wait.forHttp("/api/health", PORT))
      .start();
    url = `http://${container.getHost()}:${container.getMappedPort(PORT)}`;
    stop = () => container.stop();
  }, 300_000);
  afterAll(() => stop?.());

  const ask = async <T>(path: string) => (await (await fetch(`${url}${path}`)).json()) as T;

  it("has the data source and every dashboard, as they are in the files", async () => {
    await expect
      .poll(async () => (await ask<{ uid: string }[]>("/api/search?tag=lockstep")).map(({ uid }) => uid).sort())
      .toEqual(DASHBOARDS.map(({ name }) => `lockstep-${name}`).sort());
    const source = await ask<{ type: string; url: string }>("/api/datasources/uid/lockstep");
    expect(source).toMatchObject({ type: "prometheus", url: "http://127.0.0.1:9090" });
    for (const { name, title, rows } of DASHBOARDS) {
      const { meta, dashboard } = await ask<{
        meta: { provisioned: boolean };
        dashboard: { title: string; panels: { type: string }[] };
      }>(`/api/dashboards/uid/lockstep-${name}`);
      expect(meta.provisioned).toBe(true);
      expect(dashboard.title).toBe(title);
      expect(dashboard.panels.filter(({ type }) => type !== "row")).toHaveLength(
        rows.flatMap((row) => row.panels).length,
      );
    }
  });
});
