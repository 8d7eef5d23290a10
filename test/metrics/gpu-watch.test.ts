import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { GpuWatch, gpuQuery, parseGpus } from "../../worker/gpu-watch.ts";
import { temporary } from "../coordinator/support.ts";

/** A program of these lines that stands for nvidia-smi. */
function programOf(lines: string): string {
  const file = join(temporary(), "nvidia-smi");
  writeFileSync(file, `#!/bin/sh\n${lines}\n`, { mode: 0o755 });
  return file;
}

describe("the watch over GPUs", () => {
  it("asks for the GPUs of this process alone", () => {
    expect(gpuQuery("1")).toEqual([
      "--query-gpu=index,utilization.gpu,memory.used,memory.total,power.draw,temperature.gpu,clocks.sm,clocks.mem,ecc.errors.uncorrected.volatile.total",
      "--format=csv,noheader,nounits",
      "--id=1",
    ]);
  });

  it("reads nvidia-smi's table into base units, and what a device does not tell as no figure", () => {
    const text =
      "0, 37, 1024, 81559, 123.45, 41, 1980, 2619, 0\n1, [N/A], 2, 15360, [Not Supported], 30, 300, 405, [N/A]\n";
    expect(parseGpus(text)).toEqual([
      {
        index: "0",
        utilizationRatio: 0.37,
        memoryUsedBytes: 1_073_741_824,
        memorySizeBytes: 85_520_809_984,
        powerWatts: 123.45,
        temperatureCelsius: 41,
        smClockHertz: 1.98e9,
        memoryClockHertz: 2.619e9,
        uncorrectedErrors: 0,
      },
      {
        index: "1",
        utilizationRatio: null,
        memoryUsedBytes: 2_097_152,
        memorySizeBytes: 16_106_127_360,
        powerWatts: null,
        temperatureCelsius: 30,
        smClockHertz: 3e8,
        memoryClockHertz: 4.05e8,
        uncorrectedErrors: null,
      },
    ]);
  });

  it.each(["", "-1"])("starts nothing for a worker without GPU (%j)", async (devices) => {
    const asked = join(temporary(), "asked");
    const program = programOf(`echo "$3" >> ${asked}`);
    // The second one shows when the first one would have started the program, and that it works.
    const watches = [devices, "0"].map((own) => new GpuWatch(own, program, 10));
    const lines = () => (existsSync(asked) ? readFileSync(asked, "utf8").trim().split("\n") : []);
    try {
      await expect.poll(() => lines().length).toBeGreaterThan(5);
      expect(new Set(lines())).toEqual(new Set(["--id=0"]));
      expect(watches[0]!.readings).toEqual([]);
    } finally {
      for (const watch of watches) watch.close();
    }
  });

  it("shows no figures any more of a GPU that does not answer", async () => {
    const answer = join(temporary(), "answer");
    writeFileSync(answer, "0, 50, 1, 2, 3, 4, 5, 6, 7\n");
    const watch = new GpuWatch("0", programOf(`while read -r line; do echo "$line"; done < ${answer}`), 10);
    try {
      await expect.poll(() => watch.readings.length).toBe(1);
      expect(watch.readings[0]?.utilizationRatio).toBe(0.5);
      rmSync(answer);
      await expect.poll(() => watch.readings.length).toBe(0);
    } finally {
      watch.close();
    }
  });
});
