import { restartEvent, scalarEvent, versionEvent } from "../../coordinator/tensorboard/event.ts";

/** The bytes that the real TensorBoard has read: recorded/read-events.py, recorded/tensorboard.json. */
export function madeEvents(): Buffer {
  const start = 1_767_225_600_000;
  const records = [versionEvent(start)];
  for (let step = 1; step <= 300; step++) {
    const scalars = { "train/loss": 2 / step, "train/accuracy": step / 300, "train/learning_rate": 0.1 };
    records.push(scalarEvent({ time: start + step * 250, step, scalars }));
  }
  // The run falls back to the state after 200 steps and goes on.
  records.push(restartEvent(start + 80_000, 201));
  for (let step = 201; step <= 210; step++) {
    records.push(
      scalarEvent({ time: start + 80_000 + step * 250, step, scalars: { "train/loss": -step, "big/step": 1e30 } }),
    );
  }
  records.push(
    scalarEvent({ time: start + 200_000, step: 5_000_000_000, scalars: { "big/step": Number.POSITIVE_INFINITY } }),
  );
  return Buffer.concat(records);
}
