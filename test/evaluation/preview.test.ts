import { test } from "vitest";
import { openDataset } from "../../shared/data/dataset.ts";
import { buildReport } from "../../worker/evaluation/report.ts";
import { madeConfig, madeEvents, madeFacts, madeSteps } from "./made-run.ts";
import { pretend } from "./support.ts";

test("x", async () => {
  const d = openDataset("/root/stl/stl10_binary");
  const t = performance.now();
  const o = await buildReport({
    predictions: pretend(d.test.labels),
    images: d.test,
    classNames: d.classNames,
    config: madeConfig,
    facts: madeFacts,
    steps: madeSteps,
    events: madeEvents,
    outDirectory: "/tmp/ev/report",
  });
  console.log(o.accuracy, o.json.calibration.expectedCalibrationError, performance.now() - t);
});
