import type { DashboardSpec } from "../dashboard.ts";
import { line, stat } from "../panels.ts";
import { perSecond, quantile, rule, series } from "../queries.ts";

export const OVERVIEW: DashboardSpec = {
  name: "overview",
  title: "Lockstep: a run",
  description: "Is it making progress, how fast, did anything die, are the replicas equal?",
  rows: [
    {
      title: "Now",
      panels: [
        stat(
          "Progress",
          "percentunit",
          `max by (run) (${series("lockstep_step")}) / max by (run) (${series("lockstep_planned_steps")})`,
          "Final steps of all steps.",
        ),
        stat(
          "Images per second",
          "short",
          rule("run:lockstep_trained_images:rate1m"),
          "Images of final steps over the last minute.",
        ),
        stat(
          "Efficiency",
          "percentunit",
          rule("run:lockstep_efficiency:ratio_rate1m"),
          "Share of their time in which workers compute; what is missing to 100 % is exchange, update and waiting.",
        ),
        stat(
          "Workers computing",
          "none",
          `sum by (run) (${series("lockstep_members", 'state="computing"')})`,
          "Members that hold shards.",
        ),
        stat(
          "Since the last step",
          "s",
          `time() - max by (run) (${series("lockstep_last_step_timestamp_seconds")})`,
          "Past 90 s the alert LockstepTrainingStalled fires.",
        ),
        stat(
          "States compared equal",
          "none",
          `sum by (run) (${series("lockstep_hash_checks_total", 'outcome="equal"')})`,
          "Comparisons of lineage and state hash of all members; every step of every worker is one.",
        ),
      ],
    },
    {
      title: "Training",
      panels: [
        line(
          "Loss",
          "short",
          [[`max by (run) (${series("lockstep_loss")})`, "loss"]],
          "Mean training loss of the last final step.",
        ),
        line(
          "Accuracy",
          "percentunit",
          [[`max by (run) (${series("lockstep_training_accuracy_ratio")})`, "training"]],
          "Share of correct training predictions, augmentation and all.",
        ),
        line(
          "Images per second",
          "short",
          [[`sum by (run) (${perSecond("lockstep_trained_images_total")})`, "{{run}}"]],
          "Images of final steps.",
        ),
        line(
          "Learning rate and gradient norm",
          "short",
          [
            [`max by (run) (${series("lockstep_learning_rate")})`, "learning rate"],
            [`max by (run) (${series("lockstep_gradient_norm")})`, "gradient norm"],
          ],
          "A norm that runs away comes before a loss that is not finite.",
        ),
        line(
          "Steps by outcome",
          "short",
          [[`sum by (outcome) (${perSecond("lockstep_steps_total")})`, "{{outcome}}"]],
          "Skipped: loss or gradient was not finite, and the update changed nothing.",
        ),
        line(
          "Epoch and step",
          "none",
          [
            [`max by (run) (${series("lockstep_epoch")})`, "epoch"],
            [`max by (run) (${series("lockstep_step")})`, "step"],
            [`max by (run) (${series("lockstep_checkpoint_step")})`, "checkpoint"],
          ],
          "The checkpoint follows the steps by its interval.",
        ),
      ],
    },
    {
      title: "Membership",
      panels: [
        line(
          "Workers by state",
          "none",
          [[`sum by (state) (${series("lockstep_members")})`, "{{state}}"]],
          "Away: the stream is closed, or silent.",
        ),
        line(
          "Changes of view",
          "none",
          [
            [
              `sum by (planned, reason) (increase(${series("lockstep_view_changes_total")}[5m]))`,
              "{{reason}}, planned: {{planned}}",
            ],
          ],
          "By reason, within 5 minutes.",
        ),
        line(
          "Pause of a change, 95th percentile",
          "s",
          [[quantile("lockstep_pause_seconds", "planned"), "planned: {{planned}}"]],
          "Time without a final step beyond the median step.",
        ),
        line(
          "Losses and mismatches",
          "none",
          [
            [`sum by (worker) (${series("lockstep_member_losses_total")})`, "{{worker}} lost"],
            [`sum by (run) (${series("lockstep_mismatches_total")})`, "mismatches"],
            [`sum by (run) (${series("lockstep_fallbacks_total")})`, "fall-backs"],
          ],
          "Since the coordinator started.",
        ),
        line(
          "Term and view",
          "none",
          [
            [`max by (run) (${series("lockstep_term")})`, "term"],
            [`max by (run) (${series("lockstep_view_number")})`, "view"],
          ],
          "The term grows with every coordinator.",
        ),
        line(
          "Disk and checkpoints",
          "bytes",
          [[`min by (run) (${series("lockstep_disk_free_bytes")})`, "free"]],
          "Room on the disk of the run's directory.",
        ),
      ],
    },
  ],
};
