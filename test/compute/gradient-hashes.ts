import { createHash } from "node:crypto";
import { parentPort } from "node:worker_threads";
import { alexnet } from "../../worker/compute/models/alexnet.ts";
import { resnet } from "../../worker/compute/models/resnet.ts";
import { Bench, fillWeights, tensorflow } from "./support.ts";

/** SHA-256 of one gradient of each small model, eager and graph, of the sizes 6 and 5. Runs as a thread or a process. */
export function gradientHashes(): string[] {
  const tf = tensorflow();
  const makers = [
    () => alexnet(tf, [16, 16, 3], 4, { widths: [8, 16, 24], dropout: 0.2 }),
    () => resnet(tf, [96, 96, 3], 4, { blocks: [1, 2], widths: [8, 16], dropout: 0.2 }),
  ];
  return makers.flatMap((make) =>
    (["eager", "graph"] as const).flatMap((execution) => {
      const bench = new Bench(tf, make(), { execution });
      fillWeights(bench);
      const hashes = [6, 5].map((samples) => {
        bench.run(undefined, { samples });
        return createHash("sha256").update(bench.vector.slice()).digest("hex");
      });
      bench.gradient.dispose();
      return hashes;
    }),
  );
}

// Vitest imports this file too; outside of it a thread answers by message, a process on standard output.
if (process.env.VITEST === undefined) {
  if (parentPort === null) process.stdout.write(JSON.stringify(gradientHashes()));
  else parentPort.postMessage(gradientHashes());
}
