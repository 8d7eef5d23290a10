// The live page: asks for the status once a second and for the course of the run every three, and draws what is new.
const STATUS_MILLIS = 1000;
const HISTORY_MILLIS = 3000;
/** From here on the cells give the overview that a table of so many rows does not. */
const GRID_FROM = 12;
const SVG = "http://www.w3.org/2000/svg";

const at = (id) => document.getElementById(id);
const put = (id, text) => {
  const element = at(id);
  if (element.textContent !== text) element.textContent = text;
};
const figure = (value, digits = 3) =>
  value === null || value === undefined || !Number.isFinite(value)
    ? "–"
    : Math.abs(value) >= 1000
      ? Math.round(value).toLocaleString("en")
      : value.toPrecision(digits);
const percent = (value) => (value === null ? "–" : `${(100 * value).toFixed(1)} %`);
const bytes = (value) => (value >= 1e9 ? `${(value / 1e9).toFixed(2)} GB` : `${Math.round(value / 1e6)} MB`);
const clock = (time) => new Date(time).toLocaleTimeString("en-GB");

function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  if (hours > 0) return `${hours} h ${minutes} min`;
  return minutes > 0 ? `${minutes} min ${Math.round(seconds) % 60} s` : `${Math.round(seconds)} s`;
}

function element(name, attributes, text) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Images of each incarnation when they were last counted, for its speed. */
const counted = new Map();

function speedOf(worker, now) {
  const before = counted.get(worker.incarnation) ?? { images: worker.images, time: now, speed: null };
  const seconds = (now - before.time) / 1000;
  // Images come a step at a time: over a few seconds the figure stands still.
  if (seconds >= 5) {
    const fresh = (worker.images - before.images) / seconds;
    const speed = before.speed === null ? fresh : 0.5 * (before.speed + fresh);
    counted.set(worker.incarnation, { images: worker.images, time: now, speed });
    return speed;
  }
  counted.set(worker.incarnation, before);
  return before.speed;
}

function showStatus(status) {
  document.title = `${percent(status.step / Math.max(1, status.steps))} ${status.phase} · Lockstep`;
  put("run", status.run);
  put("phase", status.phase === "evaluating" ? evaluation(status) : status.phase);
  at("bar").value = status.step / Math.max(1, status.steps);
  const left =
    status.secondsPerStep === null ? "" : `, ${duration((status.steps - status.step) * status.secondsPerStep)} left`;
  const epoch = Math.floor(status.step / Math.max(1, status.stepsPerEpoch));
  put("where", `step ${status.step} of ${status.steps}, epoch ${epoch}${status.phase === "running" ? left : ""}`);
  at("waiting").hidden = status.waiting === null;
  put("waiting", status.waiting === null ? "" : `waiting: ${status.waiting}`);
  showFigures([
    ["loss", figure(status.loss)],
    ["accuracy", percent(status.accuracy)],
    ["images/s", figure(status.imagesPerSecond)],
    ["s/step", figure(status.secondsPerStep)],
    ["view", status.view ?? "none"],
    ["checkpoint", status.checkpoint === null ? "none yet" : `step ${status.checkpoint}`],
  ]);
  put("loss-now", figure(status.loss));
  put("pace-now", figure(status.imagesPerSecond));
  showWorkers(status.workers);
}

const evaluation = ({ evaluation: one }) =>
  one === null ? "evaluating" : `evaluating, batch ${one.done} of ${one.batches}`;

function showFigures(figures) {
  const list = at("figures");
  if (list.children.length === 0) {
    for (const [name] of figures) {
      const pair = element("div", {});
      pair.append(element("dt", {}, name), element("dd", {}));
      list.append(pair);
    }
  }
  figures.forEach(([, value], index) => {
    list.children[index].lastElementChild.textContent = value;
  });
}

const rank = ["away", "loading", "joining", "standby", "computing"];

function ordered(workers) {
  const order = at("order").value;
  const byName = (a, b) => a.name.localeCompare(b.name, "en", { numeric: true });
  if (order === "slow") return [...workers].sort((a, b) => b.shardMillis - a.shardMillis || byName(a, b));
  if (order === "state")
    return [...workers].sort((a, b) => rank.indexOf(a.state) - rank.indexOf(b.state) || byName(a, b));
  return [...workers].sort(byName);
}

function showWorkers(workers) {
  const now = performance.now();
  const counts = new Map();
  for (const { state } of workers) counts.set(state, (counts.get(state) ?? 0) + 1);
  put("counts", [...counts].map(([state, count]) => `${count} ${state}`).join(", "));
  const times = workers
    .map((worker) => worker.shardMillis)
    .filter((time) => time > 0)
    .sort((a, b) => a - b);
  // Of two workers the faster one's: the slower one is slow beside it.
  const median = times[(times.length - 1) >> 1] ?? 0;
  const slow = (worker) => workers.length > 1 && worker.state === "computing" && worker.shardMillis > 1.5 * median;
  const rows = at("rows");
  const all = ordered(workers);
  while (rows.children.length > all.length) rows.lastElementChild.remove();
  while (rows.children.length < all.length) {
    const row = element("tr", {});
    for (let cell = 0; cell < 8; cell++) row.append(element("td", cell > 3 ? { class: "wide" } : {}));
    rows.append(row);
  }
  all.forEach((worker, index) => {
    const { children } = rows.children[index];
    const cells = [
      worker.name,
      slow(worker) ? "slow" : worker.state,
      figure(speedOf(worker, now)),
      worker.shardMillis > 0 ? figure(worker.shardMillis) : "–",
      worker.shards === "" ? "–" : worker.shards,
      worker.phase === "" ? "–" : worker.phase,
      String(worker.step),
      worker.residentBytes > 0 ? bytes(worker.residentBytes) : "–",
    ];
    cells.forEach((text, cell) => {
      if (children[cell].textContent !== text) children[cell].textContent = text;
    });
    children[1].className = cells[1];
  });
  const alive = new Set(workers.map((worker) => worker.incarnation));
  for (const incarnation of counted.keys()) if (!alive.has(incarnation)) counted.delete(incarnation);
  showGrid(all, slow);
}

function showGrid(workers, slow) {
  const grid = at("grid");
  grid.hidden = workers.length < GRID_FROM;
  if (grid.hidden) return;
  while (grid.children.length > workers.length) grid.lastElementChild.remove();
  while (grid.children.length < workers.length) grid.append(element("i", {}));
  workers.forEach((worker, index) => {
    const cell = grid.children[index];
    const state = slow(worker) ? "slow" : worker.state;
    if (cell.className !== state) cell.className = state;
    const title = `${worker.name}: ${state}`;
    if (cell.title !== title) cell.title = title;
  });
}

/** A line through the points; gaps where a value is missing. The height is from `floor`, else the least value, to the largest. */
function draw(name, values, floor) {
  const known = values.filter((value) => value !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  put(`${name}-low`, known.length === 0 ? "" : `least ${figure(low)}`);
  put(`${name}-high`, known.length === 0 ? "" : `most ${figure(high)}`);
  const ground = floor ?? low;
  const height = high > ground ? high - ground : 1;
  let pen = "M";
  let path = "";
  values.forEach((value, index) => {
    if (value === null) {
      pen = "M";
      return;
    }
    const x = values.length > 1 ? (600 * index) / (values.length - 1) : 300;
    path += `${pen}${x.toFixed(1)} ${(152 - (144 * (value - ground)) / height).toFixed(1)}`;
    pen = "L";
  });
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  at(name).replaceChildren(line);
}

function showHistory({ points, validations = [], events }) {
  draw(
    "loss",
    points.map(([, , , loss]) => loss),
  );
  at("validations").hidden = validations.length === 0;
  draw(
    "validation",
    validations.map(([, accuracy]) => accuracy),
  );
  const newestOne = validations.at(-1);
  put("validation-now", newestOne === undefined ? "" : `${percent(newestOne[1])} at step ${newestOne[0]}`);
  // The pace of a stretch of points: single steps jump.
  const span = Math.max(1, Math.ceil(points.length / 200));
  const pace = [];
  for (let index = span; index < points.length; index += span) {
    const images = points.slice(index - span + 1, index + 1).reduce((sum, point) => sum + point[2], 0);
    const seconds = (points[index][1] - points[index - span][1]) / 1000;
    if (seconds > 0) pace.push(images / seconds);
  }
  draw("pace", pace, 0);
  const times = [...points.slice(0, 1).map(([, time]) => time), ...events.map(({ time }) => time)];
  const start = Math.min(...times, Date.now());
  const end = Math.max(points.at(-1)?.[1] ?? start, ...events.map(({ time }) => time), start + 1);
  at("timeline").replaceChildren(
    ...events
      .filter(({ kind }) => kind !== "other")
      .map(({ time, kind }) => {
        const line = document.createElementNS(SVG, "line");
        const x = String((4 + (992 * (time - start)) / (end - start)).toFixed(1));
        for (const [key, value] of [
          ["x1", x],
          ["x2", x],
          ["y1", kind === "trouble" ? "2" : "8"],
          ["y2", "26"],
          ["class", kind],
        ]) {
          line.setAttribute(key, value);
        }
        return line;
      }),
  );
  put("from", clock(start));
  put("to", clock(end));
  const list = at("events");
  const newest = events.slice(-50).reverse();
  const key = newest.map(({ time, text }) => `${time}${text}`).join();
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(
    ...newest.map(({ time, kind, text }) => {
      const item = element("li", { class: kind });
      item.append(element("time", { datetime: new Date(time).toISOString() }, clock(time)), text);
      return item;
    }),
  );
}

/** Asks again and again, also after the coordinator was away; a hidden page does not ask. */
async function follow(path, every, show, lost) {
  for (;;) {
    if (!document.hidden) {
      try {
        const answer = await fetch(path, { signal: AbortSignal.timeout(10_000) });
        if (!answer.ok) throw new Error(String(answer.status));
        show(await answer.json());
      } catch {
        lost();
      }
    }
    await new Promise((resolve) => setTimeout(resolve, every));
  }
}

const away = () => {
  put("phase", "the coordinator does not answer: the run has ended, or it is being started again");
  at("phase").className = "lost";
};
const show = (status) => {
  at("phase").className = "";
  showStatus(status);
};
at("order").addEventListener("change", () => last !== null && showWorkers(last.workers));
let last = null;
follow(
  "status.json",
  STATUS_MILLIS,
  (status) => {
    last = status;
    show(status);
  },
  away,
);
follow("history.json", HISTORY_MILLIS, showHistory, () => {});
