import type { Analysis } from "./analysis.ts";
import type { ComparisonJson } from "./comparison.ts";
import { type ClassExamples, pairExamples, surestErrors } from "./examples.ts";
import { reliabilityFigure, riskCoverageFigure } from "./figures/calibration.ts";
import { confusionFigure, shownClasses } from "./figures/confusion.ts";
import { curvesFigure, randomisationFigure, roadFigure } from "./figures/faithfulness.ts";
import { perClassFigure } from "./figures/per-class.ts";
import { learningFigure, paceFigure } from "./figures/training.ts";
import { paceOf } from "./history.ts";
import { paletteGradient } from "./overlay.ts";
import { clusterHistory, duration, hashRows, isChange, millions, recipeRows, runRows } from "./page-facts.ts";
import type { ShownPair } from "./pair-pictures.ts";
import { type PictureMaker, percent } from "./pictures.ts";
import type { ReportInput } from "./report.ts";
import type { ReportJson } from "./report-schema.ts";
import { renderTemplate, templateText } from "./templates.ts";

interface PageInput extends ReportInput {
  readonly analysis: Analysis;
  readonly json: ReportJson;
}

/** Widths of the drawings' plot areas in pixels: one that fills a desktop's column, one that is legible on a phone. */
const WIDE = 860;
const NARROW = 250;

/** Formatting that templates share. */
const format = {
  percent,
  count: (value: number) => value.toLocaleString("en"),
  fixed: (value: number, digits = 3) => value.toFixed(digits),
  duration,
  millions,
};

/** The whole page: styles, script, drawings and pictures inside, no reference to anything outside. */
export async function renderPage(
  input: PageInput & { readonly examples: readonly ClassExamples[]; readonly pictures: PictureMaker },
): Promise<string> {
  const { analysis, json, classNames, steps, validations = [], events, pictures, facts, config } = input;
  const shown = shownClasses(analysis.perClass);
  const history = clusterHistory(events, steps);
  const pace = paceOf(steps);
  const start = steps.find((step) => step.time !== null)?.time ?? null;
  const both = async <T>(make: (width: number) => Promise<T>) => ({
    wide: await make(WIDE),
    narrow: await make(NARROW),
  });
  const pairs = await Promise.all(
    analysis.pairs.slice(0, 6).map(async (pair) => ({
      ...pair,
      actualName: classNames[pair.actual]!,
      predictedName: classNames[pair.predicted]!,
      pictures: await pictures.all(pairExamples(analysis, pair, 4)),
    })),
  );
  const gallery = await Promise.all(
    galleryOf(input.examples, analysis).map(async ({ label, best, worst, random }) => ({
      name: classNames[label]!,
      metrics: analysis.perClass[label]!,
      best: await pictures.all(best),
      random: await pictures.all(random),
      worst: await pictures.all(worst),
    })),
  );
  return renderTemplate("./report.eta", {
    ...format,
    styles: templateText("report.css"),
    script: templateText("report.js"),
    aspect: `${input.images.shape.width} / ${input.images.shape.height}`,
    palette: paletteGradient(),
    title: `${json.model ?? "Model"}${json.run === null ? "" : `, run ${json.run}`}`,
    json,
    analysis,
    facts,
    classNames,
    shown,
    hero: gallery.flatMap(({ best }) => best.slice(0, 1)).slice(0, 10),
    gallery,
    errors: await pictures.all(surestErrors(analysis, 12)),
    pairs,
    history,
    marked: start !== null && history.changes.some(({ time }) => time !== null && time >= start),
    validated: validations.length > 0,
    runRows: runRows(facts),
    hashRows: hashRows(json),
    recipeRows: config === null ? [] : recipeRows(config),
    config,
    figures: {
      perClass: await both((width) => perClassFigure(analysis.perClass, classNames, width)),
      confusion: await confusionFigure(analysis.confusion, shown, classNames),
      reliability: await reliabilityFigure(analysis.calibration, 300),
      riskCoverage: await riskCoverageFigure(analysis.riskCoverage, 300),
      road: json.faithfulness && (await roadFigure(json.faithfulness, 300)),
      curves: json.faithfulness && (await curvesFigure(json.faithfulness, 300)),
      randomisation: json.faithfulness?.randomisation
        ? await both((width) => randomisationFigure(json.faithfulness!.randomisation!, width))
        : null,
      learning: await both((width) => learningFigure(steps, validations, width)),
      pace: await both((width) => paceFigure(pace, history.changes, start, width)),
    },
  });
}

/** Classes with pictures on the page: all, or the forty hardest. */
function galleryOf(examples: readonly ClassExamples[], { perClass }: Analysis): ClassExamples[] {
  if (examples.length <= 40) return [...examples];
  return [...examples].sort((a, b) => perClass[a.label]!.f1 - perClass[b.label]!.f1).slice(0, 40);
}

/** Changes of the membership, and stretches of the pace, that the model card tells of. */
const CARD_CHANGES = 20;
const CARD_STRETCHES = 10;

/** The report in short, in Markdown, after Mitchell et al. 2019 (Model Cards for Model Reporting). */
export function renderModelCard(input: PageInput): string {
  const { json, facts, config, events, steps } = input;
  const history = clusterHistory(events, steps);
  return renderTemplate("./model-card.eta", {
    ...format,
    json,
    facts,
    config,
    history,
    told: history.lines.filter((line) => isChange(line)).slice(0, CARD_CHANGES),
    pace: paceOf(steps, CARD_STRETCHES),
    runRows: runRows(facts),
    recipeRows: config === null ? [] : recipeRows(config),
  }).replace(/\n{3,}/g, "\n\n");
}

/** The page that sets several models side by side. */
export function renderComparison(
  json: ComparisonJson,
  shown: readonly (ShownPair | null)[],
  shape: { readonly width: number; readonly height: number },
): string {
  const best = json.models.reduce((most, model) => (model.top1 > most.top1 ? model : most));
  const others = json.pairs.filter(({ first, second }) => first === best.name || second === best.name);
  const ahead = others.filter(({ low, high }) => low > 0 || high < 0).length;
  const sentence =
    ahead === others.length
      ? "Its lead over every other is more than chance would give: no interval of a difference holds zero."
      : ahead === 0
        ? "Its lead may be chance: the intervals of the differences hold zero."
        : `Its lead is clear over ${ahead} of ${others.length} others; the rest may be chance.`;
  return renderTemplate("./compare.eta", {
    ...format,
    styles: templateText("report.css"),
    aspect: `${shape.width} / ${shape.height}`,
    palette: paletteGradient(),
    json,
    best,
    sentence,
    shown: shown.filter((pair) => pair !== null),
  });
}
