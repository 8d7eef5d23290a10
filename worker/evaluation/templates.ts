import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Eta } from "eta";

/** Templates lie beside the sources; the build copies them, and without the copy the sources are two folders further up. */
const directory = (() => {
  const beside = join(import.meta.dirname, "templates");
  return existsSync(beside) ? beside : join(import.meta.dirname, "../../../worker/evaluation/templates");
})();

const eta = new Eta({ views: directory, autoTrim: [false, "nl"] });

/** One of the templates, filled. */
export const renderTemplate = (name: string, data: object): string => eta.render(name, data);

/** The text of a file beside the templates. */
export const templateText = (name: string): string => readFileSync(join(directory, name), "utf8");
