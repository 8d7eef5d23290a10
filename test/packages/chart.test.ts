import { createHash, X509Certificate } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Ajv } from "ajv";
import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, it } from "vitest";
import { adoptPrepared } from "../../coordinator/security/prepared.ts";
import { parseLink } from "../../shared/security/join-link.ts";
import { version } from "../../shared/version.ts";
import { scratchDirectory } from "../security/support.ts";
import {
  CHART,
  type Container,
  chartFile,
  find,
  helm,
  type KubernetesObject,
  readYaml,
  render,
  runHelm,
  schemaFolder,
  type Values,
  workload,
} from "./chart.ts";

const shipped = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));

/** Kinds of the operators of Prometheus and KEDA, which Kubernetes itself does not know. */
const FOREIGN = ["ScaledObject", "ScrapeConfig", "PrometheusRule"];

const SETS: Readonly<Record<string, Values>> = {
  "as it is": {},
  "GPUs on spot machines": {
    ...{ "workers.gpus": 2, "run.options.recipe": "fast", "run.options.epochs": 20, "run.options.precision": "bf16" },
    ...{ "workers.tolerations[0].key": "spot", "workers.tolerations[0].operator": "Exists" },
    ...{ "workers.nodeSelector.pool": "gpu", "workers.priorityClassName": "low", "workers.runtimeClassName": "nvidia" },
    ...{ "workers.topologySpreadConstraints[0].maxSkew": 1, "workers.cacheSizeLimit": "2Gi" },
    "workers.topologySpreadConstraints[0].topologyKey": "topology.kubernetes.io/zone",
    "workers.topologySpreadConstraints[0].whenUnsatisfiable": "ScheduleAnyway",
  },
  "KEDA and monitoring": {
    ...{ "autoscaling.enabled": true, "monitoring.scrapeConfig": true, "monitoring.rules": true },
    ...{ "monitoring.dashboards": true, "monitoring.labels.release": "kube-prometheus-stack" },
    "run.options.shards": 8,
  },
  "an autoscaler and a deadline": {
    ...{ "autoscaling.enabled": true, "autoscaling.kind": "hpa", "autoscaling.deadline": 1900000000 },
    ...{ "monitoring.rules": true, "autoscaling.minReplicas": 2 },
  },
  "certificates of one's own": {
    ...{
      "security.certificates.coordinator": "a",
      "security.certificates.workers": "b",
      "workers.kind": "StatefulSet",
    },
    ...{ "networkPolicy.enabled": false, "coordinator.podDisruptionBudget": false, "ports.listen": "::" },
  },
  "a data set and claims of one's own": {
    ...{ "data.existingClaim": "d", "data.subPath": "stl10", "data.workersToo": true, "security.existingSecret": "s" },
    ...{ "coordinator.storage.existingClaim": "c", "workers.devices": "cpu:4", "run.place.minWorkers": 3 },
  },
};

describe("the chart's files", () => {
  it("are of this version of Lockstep", () => {
    expect(readYaml<{ appVersion: string }>(join(CHART, "Chart.yaml")).appVersion).toBe(version);
  });

  it("hold the rules and dashboards that are shipped, and no copies of them", () => {
    expect(realpathSync(join(CHART, "rules.yml"))).toBe(shipped("deploy/prometheus/rules.yml"));
    expect(realpathSync(join(CHART, "dashboards"))).toBe(shipped("deploy/grafana/dashboards"));
  });

  it("describe every value, and have defaults that fit", () => {
    const schema = JSON.parse(chartFile("values.schema.json")) as Schema;
    const ajv = new Ajv({ allErrors: true, strict: true });
    const fits = ajv.compile(schema);
    const values = readYaml<object>(join(CHART, "values.yaml"));
    expect(fits(values), ajv.errorsText(fits.errors)).toBe(true);
    expect(fits({ ...values, wrokers: {} })).toBe(false);
    expect(undescribed(schema)).toEqual([]);
    expect(unnamed(schema, values)).toEqual([]);
  });
});

interface Schema {
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
}

/** Values without a description, groups aside. */
const undescribed = (schema: Schema, path = "values"): string[] =>
  Object.entries(schema.properties ?? {}).flatMap(([name, inner]) => [
    ...(inner.description === undefined && inner.properties === undefined ? [`${path}.${name}`] : []),
    ...undescribed(inner, `${path}.${name}`),
  ]);

/** Values of the schema that values.yaml does not show. */
const unnamed = (schema: Schema, values: unknown, path = "values"): string[] =>
  Object.entries(schema.properties ?? {})
    .filter(([name]) => name !== "global" && `${path}.${name}` !== "values.run.options")
    .flatMap(([name, inner]) => {
      const value = (values as Readonly<Record<string, unknown>>)[name];
      return value === undefined ? [`${path}.${name}`] : unnamed(inner, value, `${path}.${name}`);
    })
    .filter((name) => !name.startsWith("values.run.options."));

const why = helm === null ? " (skipped: helm is not installed)" : "";

describe.skipIf(helm === null)(`the chart, by helm${why}`, () => {
  it.each(Object.entries(SETS))("is sound: %s", (_name, values) => {
    expect(runHelm(["lint", "--strict", CHART], values)).toMatchObject({ status: 0 });
    const objects = render(values);
    const names = objects.map(({ kind, metadata }) => `${kind}/${metadata.name}`);
    expect(new Set(names).size).toBe(names.length);
    for (const part of ["coordinator", "workers"] as const) checkPod(objects, part);
  });

  it.each([
    ["wrokers", { "wrokers.replicas": 3 }],
    ["to StatefulSet", { "security.certificates.coordinator": "a", "security.certificates.workers": "b" }],
    ["each need a Secret of their own", { "security.certificates.workers": "b" }],
    ["more than the 8 shards", { "autoscaling.enabled": true, "autoscaling.maxReplicas": 9, "run.options.shards": 8 }],
    ["workers/kind", { "workers.kind": "deploymnt" }],
  ] as const)("is refused with a reason: %s", (words, values: Values) => {
    const { status, err } = runHelm(["template", "x", CHART], values);
    expect(status).not.toBe(0);
    // Versions of helm differ in how they write where a value is.
    expect(err.replaceAll("workers.kind", "workers/kind")).toContain(words);
  });

  it("makes what a run can be given, and a line that leads to it", () => {
    const objects = render({}, "x");
    const { stringData } = find(objects, "Secret", "x-lockstep-security");
    const from = join(scratchDirectory(), "given");
    mkdirSync(from);
    for (const [name, text] of Object.entries(stringData!)) writeFileSync(join(from, name), text);
    const run = scratchDirectory();
    adoptPrepared(run, from);
    const { address, token } = parseLink(stringData!.join!);
    expect(address).toBe("x-lockstep-coordinator.lab.svc:7401");
    expect(token!.authority).toBe(
      createHash("sha256").update(new X509Certificate(stringData!["ca.pem"]!).raw).digest("hex"),
    );
    expect(readFileSync(join(run, "security", "tokens.json"), "utf8")).toContain(token!.id);
    // Another release is another run.
    expect(find(render({}, "x"), "Secret", "x-lockstep-security").stringData!.join).not.toBe(stringData!.join);
    const [port] = (
      find(objects, "Service", "x-lockstep-coordinator").spec!.ports as { name: string; port: number }[]
    ).filter(({ name }) => name === "tls-grpc");
    expect(port!.port).toBe(7401);
  });

  it("does not start the coordinator again when only the number of workers changes", () => {
    const [two, five] = [2, 5].map((replicas) =>
      render({ "workers.replicas": replicas, "security.existingSecret": "s" }),
    );
    expect(workload(five!, "coordinator")).toEqual(workload(two!, "coordinator"));
    const expected = (objects: readonly KubernetesObject[]) =>
      (JSON.parse(find(objects, "ConfigMap", "x-lockstep-run").data!["run.json"]!) as { place: object }).place;
    expect(expected(two!)).toEqual({ workers: 2 });
    expect(expected(five!)).toEqual({ workers: 5 });
    const other = render({ "run.place.minWorkers": 2, "security.existingSecret": "s" });
    expect(workload(other, "coordinator")).not.toEqual(workload(two!, "coordinator"));
  });

  it("gives GPUs to workers alone, one worker each, and says so to the network", () => {
    const objects = render(SETS["GPUs on spot machines"]);
    const [coordinator, worker] = (["coordinator", "workers"] as const).map((part) => containerOf(objects, part));
    expect(worker!.resources.limits).toEqual({ memory: "3Gi", "nvidia.com/gpu": 2 });
    expect(worker!.image).toBe(`lockstep:${version}-cuda12`);
    expect(worker!.args).toEqual(
      expect.arrayContaining(["--devices=all", "--ports=7400-7401", "--http=0.0.0.0:7430-7431"]),
    );
    expect(coordinator!.image).toBe(`lockstep:${version}-cpu`);
    expect(coordinator!.args).toEqual(expect.arrayContaining(["--recipe=fast", "--epochs=20", "--precision=bf16"]));
    const policy = JSON.stringify(find(objects, "NetworkPolicy", "x-lockstep-workers").spec);
    expect(policy).toContain('"ports":[{"port":7400,"endPort":7401}]');
    expect(policy).toContain('"ports":[{"port":7430,"endPort":7431}]');
    const [spread] = workload(objects, "workers").template.spec.topologySpreadConstraints!;
    expect(spread).toMatchObject({ labelSelector: { matchLabels: workload(objects, "workers").selector.matchLabels } });
  });

  it("brings the shipped rules and dashboards, word for word", () => {
    const objects = render(SETS["KEDA and monitoring"]);
    const { groups } = find(objects, "PrometheusRule", "x-lockstep").spec!;
    expect(groups).toEqual(readYaml<{ groups: unknown }>(shipped("deploy/prometheus/rules.yml")).groups);
    const { data } = find(objects, "ConfigMap", "x-lockstep-dashboards");
    const files = readdirSync(shipped("deploy/grafana/dashboards"));
    expect(Object.keys(data!).sort()).toEqual(files.map((file) => `lockstep-${file}`).sort());
    for (const file of files)
      expect(JSON.parse(data![`lockstep-${file}`]!)).toEqual(
        JSON.parse(readFileSync(shipped(`deploy/grafana/dashboards/${basename(file)}`), "utf8")),
      );
  });
});

const containerOf = (objects: readonly KubernetesObject[], part: "coordinator" | "workers"): Container =>
  workload(objects, part).template.spec.containers[0];

/** What every pod must be like: Kubernetes' "restricted" standard and more, and all names lead somewhere. */
function checkPod(objects: readonly KubernetesObject[], part: "coordinator" | "workers"): void {
  const { selector, template, volumeClaimTemplates = [] } = workload(objects, part);
  expect(template.metadata.labels).toMatchObject(selector.matchLabels);
  const { spec } = template;
  expect(spec.automountServiceAccountToken).toBe(false);
  expect(spec.securityContext).toMatchObject({
    ...{ runAsNonRoot: true, runAsUser: 10001, fsGroup: 10001 },
    seccompProfile: { type: "RuntimeDefault" },
  });
  const [container] = spec.containers;
  expect(container.securityContext).toEqual({
    ...{ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true },
    capabilities: { drop: ["ALL"] },
  });
  const ports = container.ports.map(({ name }) => name);
  for (const probe of [container.startupProbe, container.readinessProbe, container.livenessProbe]) {
    if (probe.httpGet !== undefined) expect(ports).toContain(probe.httpGet.port);
  }
  const volumes = [
    ...spec.volumes.map(({ name }) => name),
    ...volumeClaimTemplates.map(({ metadata }) => metadata.name),
  ];
  expect(container.volumeMounts.map(({ name }) => name).sort()).toEqual(expect.arrayContaining(volumes.sort()));
  expect(volumes).toEqual(expect.arrayContaining(container.volumeMounts.map(({ name }) => name)));
  // The authority's key is in the coordinator's reach alone.
  const keys = spec.volumes.flatMap(({ secret }) => (secret?.items ?? []).map(({ key }) => key));
  expect(keys.includes("ca-key.pem")).toBe(part === "coordinator" && !keys.includes("tls.key"));
  for (const { spec: service } of objects.filter(({ kind }) => kind === "Service")) {
    const { selector: chosen, ports: served } = service as unknown as {
      readonly selector: object;
      readonly ports: readonly { readonly targetPort: string }[];
    };
    if (JSON.stringify(sorted(chosen)) !== JSON.stringify(sorted(selector.matchLabels))) continue;
    expect(ports).toEqual(expect.arrayContaining(served.map(({ targetPort }) => targetPort)));
  }
}

const sorted = (object: object) => Object.entries(object).sort();

const VERSIONS = ["1.27.0", "1.34.0", "1.37.0"];
const noSchemas = VERSIONS.some((one) => schemaFolder(one) === null);
const whyNot = noSchemas ? " (skipped: LOCKSTEP_KUBERNETES_SCHEMAS names no folder of them)" : "";

describe.skipIf(helm === null || noSchemas)(`the chart's objects, by Kubernetes' schemas${whyNot}`, () => {
  it.each(VERSIONS)("are whole and have no unknown field in version %s", (kubernetes) => {
    const folder = schemaFolder(kubernetes)!;
    const definitions = JSON.parse(readFileSync(join(folder, "_definitions.json"), "utf8")) as object;
    const ajv = new Ajv2020({ strict: false, allErrors: true, validateFormats: false });
    ajv.addSchema(definitions, "_definitions.json");
    const checked = new Set<string>();
    for (const [name, values] of Object.entries(SETS)) {
      for (const object of render(values)) {
        if (FOREIGN.includes(object.kind)) continue;
        const [group, of] = object.apiVersion.includes("/") ? object.apiVersion.split("/") : ["", object.apiVersion];
        const file = [object.kind.toLowerCase(), ...(group === "" ? [] : [group!.split(".")[0]!]), of].join("-");
        expect(existsSync(join(folder, `${file}.json`)), file).toBe(true);
        const fits = ajv.getSchema(file) ?? ajv.addSchema(schemaIn(folder, file), file).getSchema(file)!;
        expect(fits(object), `${name}: ${object.kind}: ${ajv.errorsText(fits.errors)}`).toBe(true);
        checked.add(object.kind);
      }
    }
    expect([...checked].sort()).toEqual([
      ...["ConfigMap", "Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "Secret"],
      ...["Service", "ServiceAccount", "StatefulSet"],
    ]);
  });
});

const schemaIn = (folder: string, file: string) =>
  JSON.parse(readFileSync(join(folder, `${file}.json`), "utf8")) as object;

describe("the scrape configuration for a cluster without the operator", () => {
  interface Job {
    readonly tls_config: { readonly server_name: string };
    readonly http_sd_configs: readonly [{ readonly url: string }];
    readonly relabel_configs: readonly object[];
  }

  it.skipIf(helm === null)(`asks what the chart's own objects ask${why}`, () => {
    const { scrape_configs } = readYaml<{ scrape_configs: readonly Job[] }>(
      shipped("deploy/prometheus/kubernetes.yml"),
    );
    const camel = (object: object) =>
      Object.fromEntries(
        Object.entries(object).map(([name, value]) => [name.replace(/_(\w)/, (_, c) => c.toUpperCase()), value]),
      );
    const objects = render({ "monitoring.scrapeConfig": true }, "mnt");
    for (const [n, part] of (["worker", "coordinator"] as const).entries()) {
      const { spec } = find(objects, "ScrapeConfig", `mnt-lockstep-${part}`) as unknown as {
        readonly spec: { tlsConfig: { serverName: string }; httpSDConfigs: [{ url: string }]; relabelings: object[] };
      };
      const job = scrape_configs[n]!;
      expect(job.tls_config.server_name).toBe(spec.tlsConfig.serverName);
      expect(job.http_sd_configs[0].url).toBe(spec.httpSDConfigs[0].url);
      const job_ = { targetLabel: "job", replacement: "lockstep" };
      const said = [...job.relabel_configs.map(camel), ...(part === "worker" ? [job_] : [])];
      expect(new Set(said.map((one) => JSON.stringify(one)))).toEqual(
        new Set(spec.relabelings.map((one) => JSON.stringify(ordered(one)))),
      );
    }
  });

  const ordered = (object: object) => {
    const { sourceLabels, targetLabel, ...rest } = object as Readonly<Record<string, unknown>>;
    return {
      ...(sourceLabels === undefined ? {} : { sourceLabels }),
      ...(targetLabel === undefined ? {} : { targetLabel }),
      ...rest,
    };
  };
});
