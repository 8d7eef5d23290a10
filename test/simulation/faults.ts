import type { SimWorker } from "./sim-worker.ts";
import type { World } from "./world.ts";

/** What a schedule does to workers, links and coordinators. */

export function kill(world: World, worker: SimWorker): void {
  world.note(() => `KILL ${worker.incarnation}`);
  worker.alive = false;
  world.tainted.delete(worker.incarnation);
  world.hangUp(worker, true);
}

export function freeze(world: World, worker: SimWorker, millis: number): void {
  world.note(() => `FREEZE ${worker.incarnation} ${millis.toFixed(0)}`);
  worker.frozen = true;
  world.clock.after(millis, () => {
    world.note(() => `THAW ${worker.incarnation}`);
    worker.frozen = false;
    for (const run of worker.thawQueue.splice(0)) if (worker.alive) run();
    if (worker.alive && worker.link === null) world.dial(worker);
  });
}

export function cut(world: World, a: string, b: string, millis: number, oneWay: boolean): void {
  world.note(() => `CUT ${a}>${b} ${oneWay ? "one way" : "both"} ${millis.toFixed(0)}`);
  const pairs = oneWay ? [`${a}>${b}`] : [`${a}>${b}`, `${b}>${a}`];
  for (const pair of pairs) world.cuts.add(pair);
  world.clock.after(millis, () => {
    for (const pair of pairs) world.cuts.delete(pair);
  });
}

/** Its shards take that many times longer for a while, as when something else runs beside it. */
export function slow(world: World, worker: SimWorker, factor: number, millis: number): void {
  world.note(() => `SLOW ${worker.incarnation} ${factor.toFixed(1)} ${millis.toFixed(0)}`);
  worker.slowness = factor;
  world.clock.after(millis, () => {
    worker.slowness = 1;
  });
}

export function leave(world: World, worker: SimWorker): void {
  world.note(() => `LEAVE ${worker.incarnation}`);
  worker.dispatch({ kind: "leave", reason: "asked" });
}

export function flip(world: World, worker: SimWorker): void {
  world.note(() => `FLIP ${worker.incarnation}`);
  worker.content = `${worker.content}!`;
  world.tainted.add(worker.incarnation);
}

export function crashCoordinator(world: World): void {
  const coordinator = world.ruler;
  if (coordinator === undefined) return;
  world.note(() => `CRASH coordinator ${coordinator.term}`);
  coordinator.alive = false;
  world.dropLinks(coordinator, 1);
  world.clock.after(world.random.delay(500), () => {
    if (world.ruler === undefined) world.startCoordinator();
  });
}

/** The coordinator stops in place while another takes over; it wakes up later and does not know. */
export function usurpCoordinator(world: World, millis: number): void {
  const coordinator = world.ruler;
  if (coordinator === undefined || coordinator.frozen) return;
  world.note(() => `FREEZE coordinator ${coordinator.term}`);
  coordinator.frozen = true;
  world.startCoordinator();
  // Some find the new one at once, some only when the old one has learned that its time is over.
  world.dropLinks(coordinator, 0.6);
  world.clock.after(millis, () => {
    coordinator.frozen = false;
    for (const run of coordinator.thawQueue.splice(0)) if (coordinator.alive) run();
  });
}
