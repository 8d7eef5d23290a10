import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parse, parseAllDocuments } from "yaml";
import { onPath } from "../../deploy/up/nats-program.ts";

export const CHART = fileURLToPath(new URL("../../deploy/helm/lockstep", import.meta.url));
export const chartFile = (name: string): string => readFileSync(join(CHART, name), "utf8");

/** The program that renders charts; null where it is not installed. */
export const helm = onPath("helm");

/** An object of Kubernetes, as far as tests look at it. */
export interface KubernetesObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly annotations?: Readonly<Record<string, string>> };
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly data?: Readonly<Record<string, string>>;
  readonly stringData?: Readonly<Record<string, string>>;
}

export interface Container {
  readonly name: string;
  readonly image: string;
  readonly args: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value?: string; readonly valueFrom?: FieldRef }[];
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
  readonly volumeMounts: readonly {
    readonly name: string;
    readonly mountPath: string;
    readonly subPath?: string;
    readonly readOnly?: boolean;
  }[];
  readonly resources: { readonly limits?: Readonly<Record<string, unknown>> };
  readonly securityContext: Readonly<Record<string, unknown>>;
  readonly startupProbe: Probe;
  readonly readinessProbe: Probe;
  readonly livenessProbe: Probe;
}

interface FieldRef {
  readonly fieldRef: { readonly fieldPath: string };
}

export interface Probe {
  readonly httpGet?: { readonly path: string; readonly port: string; readonly scheme: string };
  readonly exec?: { readonly command: readonly string[] };
}

export interface Volume {
  readonly name: string;
  readonly emptyDir?: object;
  readonly secret?: {
    readonly secretName: string;
    readonly items: readonly { readonly key: string; readonly path: string }[];
  };
  readonly configMap?: { readonly name: string };
  readonly persistentVolumeClaim?: { readonly claimName: string };
}

export interface PodSpec {
  readonly automountServiceAccountToken: boolean;
  readonly securityContext: Readonly<Record<string, unknown>>;
  readonly containers: readonly [Container];
  readonly volumes: readonly Volume[];
  readonly topologySpreadConstraints?: readonly object[];
}

/** A StatefulSet or Deployment. */
export interface Workload {
  readonly replicas?: number;
  readonly selector: { readonly matchLabels: Readonly<Record<string, string>> };
  readonly template: {
    readonly metadata: {
      readonly labels: Readonly<Record<string, string>>;
      readonly annotations?: Readonly<Record<string, string>>;
    };
    readonly spec: PodSpec;
  };
  readonly volumeClaimTemplates?: readonly { readonly metadata: { readonly name: string } }[];
}

/** Values by their dotted names, as --set takes them. */
export type Values = Readonly<Record<string, string | number | boolean>>;

/** What helm says to a command of the chart; the version of Kubernetes is none that it was built with. */
export function runHelm(command: readonly string[], values: Values = {}, version = "1.34.0") {
  const set = Object.entries(values).flatMap(([name, value]) => ["--set", `${name}=${value}`]);
  const { status, stdout, stderr } = spawnSync(helm!, [...command, "--kube-version", version, ...set], {
    encoding: "utf8",
    maxBuffer: 2 ** 26,
  });
  return { status, out: stdout, err: stderr };
}

/** The chart's objects for these values, in namespace `lab`. @throws Error what helm refuses */
export function render(values: Values = {}, release = "x"): readonly KubernetesObject[] {
  const { status, out, err } = runHelm(["template", release, CHART, "--namespace", "lab"], values);
  if (status !== 0) throw new Error(err);
  return parseAllDocuments(out).flatMap((document) => {
    if (document.errors.length > 0) throw document.errors[0]!;
    const object = document.toJS() as KubernetesObject | null;
    return object === null ? [] : [object];
  });
}

export function find(objects: readonly KubernetesObject[], kind: string, name: string): KubernetesObject {
  const found = objects.find((object) => object.kind === kind && object.metadata.name === name);
  if (found === undefined) throw new Error(`there is no ${kind} ${name}`);
  return found;
}

export const workload = (objects: readonly KubernetesObject[], part: "coordinator" | "workers"): Workload => {
  const found = objects.find(
    ({ kind, metadata }) => /^(StatefulSet|Deployment)$/.test(kind) && metadata.name.endsWith(`-${part}`),
  );
  return found!.spec as unknown as Workload;
};

export const readYaml = <T>(path: string): T => parse(readFileSync(path, "utf8")) as T;

/**
 * Kubernetes' own schemas, one folder for each of its versions (`v1.34.0-local-strict`), as the Python package
 * kubernetes-validate brings them; null where there are none.
 */
export function schemaFolder(version: string): string | null {
  const root = process.env.LOCKSTEP_KUBERNETES_SCHEMAS;
  if (root === undefined) return null;
  const folder = join(root, `v${version}-local-strict`);
  return existsSync(folder) ? folder : null;
}
