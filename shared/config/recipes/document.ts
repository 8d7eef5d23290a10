import { RECIPES, settingsWith } from "./index.ts";

/** The table of recipes in shared/config/README.md, Markdown. */
export function recipeDocument(): string {
  const rows = Object.values(RECIPES).flatMap((recipe) =>
    Object.entries(recipe.expected).map(([model, { accuracy, cost }]) => {
      const settings = settingsWith(recipe, model);
      const { resolutions, augmentation, ema } = settings;
      const sides = resolutions.map((entry) => {
        const side = "part" in entry ? `${Number((100 * entry.part).toFixed(0))} %` : (entry.side ?? "full");
        return entry.fromEpoch === 0 ? `${side}` : `${side} from epoch ${entry.fromEpoch + 1}`;
      });
      const { cropPadding, resizedCrop, flip, colour, cutout } = augmentation;
      const changes = [
        resizedCrop === null ? `crop of ${cropPadding} pixels` : `resized crop of ${resizedCrop.area.join(" to ")}`,
        flip > 0 ? "flip" : "",
        colour === null ? "" : "colour",
        cutout > 0 ? `cutout ${Number(cutout.toFixed(2))}` : "",
      ];
      const cells = [
        settings.recipe,
        Object.keys(settings.model.options).length === 0
          ? model
          : `${model} ${JSON.stringify(settings.model.options).replaceAll('"', "").replaceAll(",", ", ")}`,
        settings.shards,
        settings.batch,
        settings.epochs,
        settings.peakRate,
        sides.join(", "),
        changes.filter((change) => change !== "").join(", "),
        ema?.decay ?? "none",
        settings.precision,
        accuracy,
        cost,
      ];
      return `| ${cells.join(" | ")} |`;
    }),
  );
  const head = [
    "recipe",
    "model",
    "V",
    "batch",
    "epochs",
    "peak rate",
    "side of the images",
    "augmentation",
    "EMA",
    "precision",
    "expected",
    "training time",
  ];
  return [`| ${head.join(" | ")} |`, `|${head.map(() => "---|").join("")}`, ...rows].join("\n");
}

/** What --recipe can be, a line for each, for the command line's help. */
export function recipeHelp(): string {
  const lines = Object.entries(RECIPES).map(([name, { purpose, expected }]) => {
    const hopes = Object.entries(expected).map(([model, { accuracy, cost }]) => `${model}: ${accuracy}, ${cost}`);
    return `  ${name.padEnd(10)} ${purpose} (${hopes.join("; ")})`;
  });
  return `\nRecipes, with accuracy on STL-10 and training time on two quiet cores with bfloat16:\n${lines.join("\n")}`;
}
