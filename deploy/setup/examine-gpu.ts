import { basename } from "node:path";
import { gpuAddon } from "../../worker/compute/native-addon.ts";
import { type GpuList, listGpus } from "../up/devices.ts";
import { type Finding, finding } from "./finding.ts";
import { type Loaded, tryLibrary } from "./try-library.ts";

const SETUP = "npx lockstep setup --gpu";
/** Comes with the driver, not with CUDA's wheels. */
const DRIVER = "libcuda.so.1";

/** Cards and driver, as `--devices all` finds them, and what TensorFlow makes of them. */
export async function gpuFindings(): Promise<Finding[]> {
  const found = listGpus();
  const first = "gpus" in found ? found.gpus[0]!.index : "0";
  return [cards(found), gpuLibrary(found, gpuAddon() === null ? null : await tryLibrary(first))];
}

function cards(found: GpuList): Finding {
  if ("reason" in found) return finding("GPU", false, `${found.reason}: training runs on the CPU`, null, true);
  const names = found.gpus.map(({ index, name }) => `${index}: ${name}`).join(", ");
  return finding("GPU", true, `${names}; driver ${found.gpus[0]?.driver ?? "unknown"}`, null);
}

/** @param tried null: it is not set up; a sentence: why it does not load */
export function gpuLibrary(found: GpuList, tried: Loaded | string | null): Finding {
  const what = "GPU library";
  const hasCards = "gpus" in found;
  if (tried === null) return finding(what, false, "not set up", hasCards ? SETUP : null, true);
  const again = `npx lockstep setup --clean, then ${SETUP}`;
  if (typeof tried === "string") return finding(what, false, `does not load: ${tried}`, again);
  const { version, device, libraries } = tried;
  const failed = libraries.filter(({ failure }) => failure !== null);
  const needDriver = failed.filter(({ failure }) => failure?.includes(DRIVER));
  const broken = failed.filter((one) => !needDriver.includes(one));
  const cuda = `${libraries.length - failed.length} of ${libraries.length} libraries of CUDA`;
  if (broken.length > 0) {
    const { file, failure } = broken[0]!;
    return finding(
      what,
      false,
      `TensorFlow ${version} and ${cuda} load; ${basename(file)} does not: ${failure}`,
      again,
    );
  }
  const waits = needDriver.length === 0 ? "" : ` (${needDriver.length} with the driver's ${DRIVER}, which is not here)`;
  const loads = `TensorFlow ${version} and ${cuda} load${waits}`;
  if (device === "gpu") return finding(what, true, `${loads}, and it computes on the GPU`, null);
  if (!hasCards) return finding(what, true, `${loads}; there is no GPU to try it on`, null);
  return finding(
    what,
    false,
    `${loads}, but TensorFlow does not use the GPU`,
    "use a driver for CUDA 12 (525 or newer); in a container, let in its libraries (NVIDIA_DRIVER_CAPABILITIES=compute,utility)",
  );
}
