import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeSynthetic } from "../../deploy/data/synthetic.ts";
import { type Dataset, openDataset } from "../../shared/data/dataset.ts";
import { decodePredictions, type Predictions } from "../../worker/evaluation/predictions.ts";
import { buildReport, type ReportInput, type ReportOutput } from "../../worker/evaluation/report.ts";
import { reportJsonSchema, reportSchema } from "../../worker/evaluation/report-schema.ts";
import { madeConfig, madeEvents, madeFacts, madeSteps } from "./made-run.ts";
import { pretend, realData } from "./support.ts";

let scratch: string;
let dataset: Dataset;
let predictions: Predictions;
let made: ReportOutput;
const out = (name: string) => join(scratch, name);

const input = (name: string, more: Partial<ReportInput> = {}): ReportInput => ({
  predictions,
  images: dataset.test,
  classNames: dataset.classNames,
  config: madeConfig,
  facts: madeFacts,
  steps: madeSteps,
  events: madeEvents,
  created: new Date(Date.UTC(2026, 4, 12)),
  outDirectory: out(name),
  ...more,
});

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), "lockstep-report-"));
  if (realData === null) await writeSynthetic(out("data"), { train: 20, test: 400, classes: 10, side: 48 });
  dataset = openDataset(realData ?? out("data"));
  predictions = pretend(dataset.test.labels);
  made = await buildReport(input("report"));
});
afterAll(() => {
  dataset.close();
  rmSync(scratch, { recursive: true });
});

describe("a report", () => {
  it("is four whole files, the page below 3 MB", () => {
    const names = ["model-card.md", "predictions.safetensors", "report.html", "report.json"];
    expect(readdirSync(out("report")).sort()).toEqual(names);
    expect(statSync(out("report/report.html")).size).toBeLessThan(3_000_000);
    const { samples, logits } = decodePredictions(readFileSync(out("report/predictions.safetensors")));
    expect([samples, logits.length]).toEqual([predictions.samples, predictions.logits.length]);
  });

  it("has figures that fit the published schema, and the same as summary.json gets", () => {
    const json = reportSchema.parse(JSON.parse(readFileSync(out("report/report.json"), "utf8")));
    const wrong = json.confusion.flatMap((row, i) => row.filter((_, k) => k !== i)).reduce((sum, n) => sum + n, 0);
    expect(json.accuracy.top1.value).toBeCloseTo(1 - wrong / dataset.test.count, 12);
    expect(made.accuracy.top1).toBe(json.accuracy.top1.value);
    expect(made.accuracy.top5).toBe(json.accuracy.topK.value);
    expect(Object.values(json.maps!.kinds).reduce((sum, n) => sum + n, 0)).toBe(dataset.test.count);
  });

  it("has a model card that tells of data, recipe and the cluster's history", () => {
    const card = readFileSync(out("report/model-card.md"), "utf8");
    const headings = [...card.matchAll(/^## (.+)$/gm)].map((match) => match[1]);
    expect(headings).toEqual(["Model", "Evaluation", "Data", "Training", "Cluster", "Limits"]);
    expect(card).toContain("Trained on 5,000 images of 96 × 96 × 3");
    expect(card).toContain("| 5 min 16 s | View 1.2: w1 was lost (its process ended) |");
    // 479 times between steps are stretches of 48; what is left joins the ninth.
    expect(card.split("| From | To | Images/s |")[1]!.match(/^\| [^|]*s \|.*\d\.\d \|$/gm)).toHaveLength(9);
    expect(card).not.toContain("undefined");
  });

  it("shows the temperature where held-out images were given, in page, card and figures", async () => {
    expect(made.json.calibration.temperature).toBe(null);
    const { samples, classes, logits, labels } = pretend(dataset.test.labels, 10, 2);
    const { json } = await buildReport(input("warm", { heldOut: { samples, classes, logits, labels } }));
    const { value, heldOutImages } = json.calibration.temperature!;
    expect(heldOutImages).toBe(samples);
    const figure = value.toFixed(2);
    const [page, card] = ["report.html", "model-card.md"].map((name) => readFileSync(out(`warm/${name}`), "utf8"));
    expect(page).toContain(`A temperature of ${figure}, fitted on ${samples.toLocaleString("en")} held-out`);
    expect(card).toContain(`| The same at temperature ${figure}, fitted on`);
  });

  it("publishes the schema as it is", () => {
    const file = new URL("../../worker/evaluation/report.schema.json", import.meta.url);
    expect(JSON.parse(readFileSync(file, "utf8"))).toEqual(reportJsonSchema());
  });

  it("is the same bytes for the same run", async () => {
    await buildReport(input("again"));
    for (const name of readdirSync(out("report"))) {
      expect(Buffer.compare(readFileSync(out(`again/${name}`)), readFileSync(out(`report/${name}`))), name).toBe(0);
    }
  });

  it("escapes names", async () => {
    const classNames = ["<script>alert(1)</script>", ...dataset.classNames.slice(1)];
    await buildReport(input("names", { classNames }));
    const page = readFileSync(out("names/report.html"), "utf8");
    expect(page.includes("<script>alert")).toBe(false);
    expect(page.includes("&lt;script&gt;alert(1)")).toBe(true);
  });

  it("is made without maps, config, history or errors too", async () => {
    const few = { maps: null, config: null, facts: {}, steps: [], events: [] };
    const logits = predictions.logits.map((_, i) => (i % 10 === predictions.labels[Math.floor(i / 10)] ? 5 : 0));
    const { json } = await buildReport(input("bare", { ...few, predictions: { ...predictions, logits, maps: null } }));
    expect(json).toMatchObject({ maps: null, confusedPairs: [], accuracy: { top1: { value: 1 } } });
    expect(readFileSync(out("bare/report.html"), "utf8").includes("It makes no errors.")).toBe(true);
  });

  it("is refused where names and predictions do not fit", async () => {
    const classNames = dataset.classNames.slice(1);
    await expect(buildReport(input("short", { classNames }))).rejects.toMatchObject({ code: "LS_EVALUATION_CLASSES" });
  });
});
