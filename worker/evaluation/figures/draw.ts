import { parse, View } from "vega";
import { type Config, compile, type TopLevelSpec } from "vega-lite";

/** A drawing for the page: an SVG whose colours are the page's CSS variables, so that it follows light and dark. */
export interface Figure {
  readonly svg: string;
  /** What it shows, for people who cannot see it. */
  readonly alternative: string;
}

/** The page's colours by role; report.css gives each a value for light and one for dark. */
export const COLOUR = {
  ink: "var(--ink)",
  faint: "var(--muted)",
  line: "var(--line)",
  paper: "var(--card)",
  accent: "var(--accent)",
  good: "var(--good)",
  bad: "var(--bad)",
} as const;

/** Domain of an axis from 0 (Vega-Lite wants a mutable list). */
export const upTo = (end: number): number[] => [0, end];
/** Domain of shares. */
export const UNIT: number[] = upTo(1);

const config: Config = {
  background: "transparent",
  aria: false,
  font: "inherit",
  view: { stroke: null },
  padding: 4,
  axis: {
    domainColor: COLOUR.line,
    gridColor: COLOUR.line,
    tickColor: COLOUR.line,
    labelColor: COLOUR.faint,
    titleColor: COLOUR.faint,
    labelFontSize: 11,
    titleFontSize: 11,
    titleFontWeight: "normal",
    titlePadding: 8,
    domain: false,
    ticks: false,
    labelPadding: 6,
  },
  legend: { labelColor: COLOUR.faint, titleColor: COLOUR.faint },
};

/** Draws a Vega-Lite specification. `alternative` is its text form. */
export async function draw(specification: TopLevelSpec, alternative: string): Promise<Figure> {
  const { spec } = compile({ ...specification, config } as TopLevelSpec);
  const view = new View(parse(spec), { renderer: "none" });
  try {
    return { svg: tidy(await view.toSVG()), alternative };
  } finally {
    view.finalize();
  }
}

/** The drawing alone: the element around it says what it is, and coordinates need no more than two decimals. */
function tidy(svg: string): string {
  return svg
    .replace(
      /<svg [^>]*?width="(\d+)"[^>]*?viewBox="([^"]+)"[^>]*>/,
      '<svg viewBox="$2" style="max-width:$1px" aria-hidden="true" focusable="false">',
    )
    .replace(/-?\d+\.\d{3,}/g, (number) => String(Math.round(Number(number) * 100) / 100));
}
