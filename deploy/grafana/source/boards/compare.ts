import type { DashboardSpec } from "../dashboard.ts";
import { line } from "../panels.ts";
import { rule, series } from "../queries.ts";

export const COMPARE: DashboardSpec = {
  name: "compare",
  title: "Lockstep: compare runs",
  description: "Several runs side by side.",
  manyRuns: true,
  rows: [
    {
      title: "Runs",
      panels: [
        line("Loss", "short", [[`max by (run) (${series("lockstep_loss")})`, "{{run}}"]], "Mean training loss."),
        line(
          "Accuracy",
          "percentunit",
          [[`max by (run) (${series("lockstep_training_accuracy_ratio")})`, "{{run}}"]],
          "On training images, augmentation and all.",
        ),
        line(
          "Images per second",
          "short",
          [[rule("run:lockstep_trained_images:rate1m"), "{{run}}"]],
          "Images of final steps over the last minute.",
        ),
        line(
          "Efficiency",
          "percentunit",
          [[rule("run:lockstep_efficiency:ratio_rate1m"), "{{run}}"]],
          "Share of their time in which workers compute.",
        ),
        line(
          "Workers computing",
          "none",
          [[`sum by (run) (${series("lockstep_members", 'state="computing"')})`, "{{run}}"]],
          "Members that hold shards.",
        ),
        line("Steps", "none", [[`max by (run) (${series("lockstep_step")})`, "{{run}}"]], "Final steps."),
      ],
    },
  ],
};
