import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { GpuWatch, gpuQuery, parseGpus } from "../../worker/gpu-watch.ts";

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

  it.each(["", "-1"])("starts nothing for a worker without GPU (%j)", (devices) => {
    const watch = new GpuWatch(devices, "/nonexistent/nvidia-smi");
    expect(watch.readings).toEqual([]);
    watch.close();
  });

  it("shows no figures any more of a GPU that does not answer", async () => {
    const folder = mkdtempSync(join(tmpdir(), "lockstep-gpu-"));
    const program = join(folder, "nvidia-smi");
    const answer = join(folder, "answer");
    writeFileSync(answer, "0, 50, 1, 2, 3, 4, 5, 6, 7\n");
    writeFileSync(program, `#!/bin/sh\nwhile read -r line; do echo "$line"; done < ${answer}\n`);
    chmodSync(program, 0o755);
    const watch = new GpuWatch("0", program, 10);
    try {
      await expect.poll(() => watch.readings.length).toBe(1);
      expect(watch.readings[0]?.utilizationRatio).toBe(0.5);
      rmSync(answer);
      await expect.poll(() => watch.readings.length).toBe(0);
    } finally {
      watch.close();
      rmSync(folder, { recursive: true });
    }
  });
});
