// Runs the model of the page on the user's own picture, in the browser alone.
const facts = JSON.parse(document.getElementById("facts").textContent);
const $ = (id) => document.getElementById(id);
const say = (text) => {
  $("status").textContent = text;
};
let running = null;

const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

/** The model, and the same with the features before its pooling where it ends in pooling and a dense layer. */
async function load(handler) {
  const model = await tf.loadLayersModel(handler);
  const names = model.layers.map((layer) => layer.getClassName()).filter((name) => name !== "Dropout");
  const exact = names.at(-1) === "Dense" && names.at(-2) === "GlobalAveragePooling2D";
  const pooling = exact ? model.layers.findLast((layer) => layer.getClassName() === "GlobalAveragePooling2D") : null;
  const both = exact ? tf.model({ inputs: model.inputs, outputs: [pooling.input, model.outputs[0]] }) : null;
  return { model, both, dense: model.layers.at(-1) };
}

function embedded() {
  const weights = $("weights").textContent.trim();
  if (weights === "") return null;
  const { modelTopology, weightSpecs } = facts.model;
  return { load: async () => ({ modelTopology, weightSpecs, weightData: bytesOf(weights).buffer }) };
}

/** The picture's middle square in the model's size, as float32 values that the model was trained on. */
function prepare(image) {
  const { side, mean, deviation } = facts;
  const extent = Math.min(image.width, image.height);
  const canvas = $("picture");
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  const [left, top] = [(image.width - extent) / 2, (image.height - extent) / 2];
  context.drawImage(image, left, top, extent, extent, 0, 0, side, side);
  const { data } = context.getImageData(0, 0, side, side);
  const channels = mean.length;
  const values = new Float32Array(side * side * channels);
  for (let pixel = 0; pixel < side * side; pixel++) {
    const grey = 0.299 * data[4 * pixel] + 0.587 * data[4 * pixel + 1] + 0.114 * data[4 * pixel + 2];
    for (let c = 0; c < channels; c++) {
      const value = channels === 1 ? grey : data[4 * pixel + c];
      values[pixel * channels + c] = (value / 255 - mean[c]) / deviation[c];
    }
  }
  return tf.tensor4d(values, [1, side, side, channels]);
}

/** Logits, and maps of all classes as [height, width, classes] where the model has exact ones. */
function forward({ model, both, dense }, x) {
  if (both === null) return { logits: model.predict(x), maps: null };
  const [features, logits] = both.predict(x);
  const [, height, width, channels] = features.shape;
  const [kernel, bias] = dense.getWeights();
  const flat = features.reshape([height * width, channels]).matMul(kernel);
  return { logits, maps: (bias ? flat.add(bias) : flat).reshape([height, width, kernel.shape[1]]) };
}

function predict(loaded, image) {
  return tf.tidy(() => {
    const x = prepare(image);
    let { logits, maps } = forward(loaded, x);
    if (facts.flipAveraging) {
      const mirrored = forward(loaded, x.reverse(2));
      logits = logits.add(mirrored.logits).mul(0.5);
      maps = maps?.add(mirrored.maps.reverse(1)).mul(0.5);
    }
    const probabilities = [...logits.softmax().dataSync()];
    return { probabilities, maps: maps && { values: maps.dataSync(), height: maps.shape[0], width: maps.shape[1] } };
  });
}

/** Lays the map of one class over the picture, its colours scaled to its own strongest place. */
function draw(maps, label) {
  const canvas = $("map");
  const classes = facts.classes.length;
  canvas.hidden = maps === null;
  if (maps === null) return;
  const { height, width, values } = maps;
  const palette = bytesOf(facts.palette);
  const small = new OffscreenCanvas(width, height);
  const context = small.getContext("2d");
  const pixels = context.createImageData(width, height);
  const own = Float32Array.from({ length: height * width }, (_, p) => values[p * classes + label]);
  const peak = Math.max(...own);
  own.forEach((value, p) => {
    const entry = peak > 0 ? Math.round(Math.max(0, value / peak) * 255) * 4 : 0;
    pixels.data.set(palette.subarray(entry, entry + 4), 4 * p);
  });
  context.putImageData(pixels, 0, 0);
  canvas.width = canvas.height = 384;
  canvas.getContext("2d").drawImage(small, 0, 0, canvas.width, canvas.height);
}

function show({ probabilities, maps }) {
  const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
  const list = $("classes");
  list.replaceChildren(
    ...order.map((label) => {
      const row = document.createElement("button");
      row.type = "button";
      row.dataset.label = label;
      row.dataset.probability = probabilities[label];
      row.style.setProperty("--share", probabilities[label]);
      row.append(
        facts.classes[label],
        Object.assign(document.createElement("b"), { textContent: `${(100 * probabilities[label]).toFixed(1)} %` }),
      );
      row.addEventListener("click", () => choose(label));
      return row;
    }),
  );
  const choose = (label) => {
    draw(maps, label);
    for (const row of list.children) row.setAttribute("aria-pressed", String(Number(row.dataset.label) === label));
    $("shown").textContent = maps === null ? "" : `The map shows what speaks for ${facts.classes[label]}.`;
  };
  choose(order[0]);
  say(`${facts.classes[order[0]]}, ${(100 * probabilities[order[0]]).toFixed(1)} % sure.`);
  $("result").hidden = false;
}

async function take(file) {
  if (!file || running === null) return;
  say("Looking …");
  try {
    const image = await createImageBitmap(file, { colorSpaceConversion: "none" });
    show(predict(await running, image));
  } catch (error) {
    say(`This file cannot be shown as a picture: ${error.message}`);
  }
}

function start(handler) {
  running = load(handler);
  running.then(
    () => {
      $("photo").disabled = false;
      say("Choose a picture, or drop one here.");
    },
    (error) => say(`The model does not load: ${error.message}`),
  );
}

$("photo").addEventListener("change", (event) => take(event.target.files[0]));
$("model-files").addEventListener("change", (event) => {
  const files = [...event.target.files].sort((a, b) => (a.name.endsWith(".json") ? -1 : a.name.localeCompare(b.name)));
  if (files.length > 0) start(tf.io.browserFiles(files));
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  take(event.dataTransfer.files[0]);
});
const handler = embedded();
if (handler === null) say("Choose the model's files: model.json and its weights.");
else start(handler);
