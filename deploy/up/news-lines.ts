import type { News } from "../../shared/broadcast/listener.ts";
import { figure, percent } from "./text.ts";

/**
 * One line for what was heard about a run; null for what people need not read. `withRun`: several runs are watched, so each
 * line names its own.
 */
export function newsLine(news: News, withRun: boolean): string | null {
  const text = newsText(news);
  return text === null ? null : withRun ? `${news.message.run}  ${text}` : text;
}

function newsText(news: News): string | null {
  switch (news.kind) {
    case "step": {
      const { step, epoch, loss, accuracy, images, learningRate, applied, view, shards } = news.message;
      const parts = [
        `step ${step}`,
        `epoch ${epoch}`,
        `loss ${figure(loss)}`,
        `accuracy ${percent(accuracy)}`,
        `${images} images`,
        `rate ${figure(learningRate)}`,
        `view ${view} of ${Object.keys(shards).length}`,
      ];
      return parts.join("  ") + (applied ? "" : "  not applied: loss or gradient not finite");
    }
    case "epoch": {
      const { epoch, loss, accuracy, images } = news.message;
      return `epoch ${epoch} done  mean loss ${figure(loss)}  accuracy ${percent(accuracy)}  ${images} images`;
    }
    case "event":
      return news.message.type === "validation" ? validationText(news.message) : eventText(news.message);
    case "worker":
      return null;
    default:
      return news satisfies never;
  }
}

function validationText({ step, accuracy, loss, samples, seconds }: Record<string, unknown>): string {
  if (typeof accuracy !== "number") return `validation of step ${String(step)}: whoever held that state was lost`;
  const cost = typeof loss === "number" ? `  loss ${figure(loss)}` : "";
  return `validation of step ${String(step)}  accuracy ${percent(accuracy)}${cost}  ${String(samples)} held-out images  in ${figure(Number(seconds))} s`;
}

/** An event in the order of its fields: they are written for people. */
function eventText({ run: _run, time: _time, term: _term, type, ...fields }: Record<string, unknown>): string {
  const words = Object.entries(fields)
    .filter(([, value]) => value !== "" && value !== null)
    .map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : String(value)}`);
  return [`${String(type)}:`, words.join(", ")].join(" ");
}
