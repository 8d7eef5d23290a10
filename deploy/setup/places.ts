import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cacheDirectory } from "../data/locations.ts";

/** Versions that this Lockstep was built and measured with. */
export const TENSORFLOW_VERSION = "2.21.0";
export const NATS_VERSION = "2.15.1";

export const FLAVOURS = ["cpu", "gpu"] as const;
export type Flavour = (typeof FLAVOURS)[number];

/** The package of each flavour on the Python index; the GPU's brings CUDA 12 in packages of its own. */
export const TENSORFLOW_PACKAGE: Readonly<Record<Flavour, string>> = { cpu: "tensorflow-cpu", gpu: "tensorflow" };

/** Root of the package, from sources and from the built tree. */
export const packageRoot = (): string =>
  fileURLToPath(new URL(import.meta.url.endsWith(".ts") ? "../.." : "../../..", import.meta.url));

export interface CachePlaces {
  readonly cache: string;
  readonly downloads: string;
  /** Unpacked library: tensorflow/ and include/, as in the wheel; the compiled add-ons beside them. */
  readonly runtime: string;
  readonly natsServer: string;
}

export function cachePlaces(flavour: Flavour = "cpu", cache = cacheDirectory()): CachePlaces {
  return {
    cache,
    downloads: join(cache, "downloads"),
    runtime: join(cache, "runtime", `${TENSORFLOW_PACKAGE[flavour]}-${TENSORFLOW_VERSION}`),
    natsServer: join(cache, "nats", NATS_VERSION, "nats-server"),
  };
}

/** Where the packages lie that the add-on is made from and linked into. */
export interface PackagePlaces {
  /** Folder of @tensorflow/tfjs-node-gpu. */
  readonly tfjs: string;
  /** Node-API's headers. */
  readonly nodeApi: string;
}

export const packagePlaces = (root = packageRoot()): PackagePlaces => ({
  tfjs: join(root, "node_modules", "@tensorflow", "tfjs-node-gpu"),
  nodeApi: join(root, "node_modules", "node-api-headers", "include"),
});
