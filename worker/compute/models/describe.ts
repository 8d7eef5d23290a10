import type { LayersModel } from "@tensorflow/tfjs-layers";
import type { Layer } from "../model-tensors.ts";

/** One layer of a model, for tables. */
export interface LayerRow {
  readonly name: string;
  readonly kind: string;
  /** Kernel and stride, or rate, or empty. */
  readonly detail: string;
  /** Without the batch. */
  readonly output: readonly number[];
  /** Trainable values. */
  readonly parameters: number;
  /** Multiplications with weights for one image. */
  readonly multiplications: number;
  /** Whether it counts as a weighted layer as the ResNet paper counts: convolutions and dense layers, no projections. */
  readonly weighted: boolean;
}

/** The layers in model order, with the shapes that an image of `inputShape` [height, width, channels] has in them. */
export function layerRows(model: LayersModel, inputShape: readonly [number, number, number]): LayerRow[] {
  const shapes = new Map<Layer, (number | null)[]>();
  return model.layers.map((layer) => {
    const before = layer.inboundNodes[0]!.inboundLayers.map((from) => shapes.get(from)!);
    const first = before.length === 0;
    const shape = (
      first ? [null, ...inputShape] : layer.computeOutputShape(before.length > 1 ? before : before[0]!)
    ) as (number | null)[];
    shapes.set(layer, shape);
    return rowOf(layer, shape.slice(1) as number[]);
  });
}

function rowOf(layer: Layer, output: readonly number[]): LayerRow {
  const kind = layer.getClassName();
  const config = layer.getConfig() as Record<string, unknown>;
  const sizes = (layer.trainableWeights as unknown as { shape: number[]; originalName: string }[]).map((weight) => ({
    kernel: weight.originalName.endsWith("kernel"),
    size: weight.shape.reduce((product, extent) => product * extent, 1),
  }));
  const positions = output.length === 3 ? output[0]! * output[1]! : 1;
  const kernels = sizes.filter(({ kernel }) => kernel);
  const multiplies = kind.includes("Conv") || kind === "Dense";
  return {
    name: layer.name,
    kind,
    detail: detailOf(config),
    output,
    parameters: sizes.reduce((sum, { size }) => sum + size, 0),
    multiplications: multiplies ? kernels.reduce((sum, { size }) => sum + size * positions, 0) : 0,
    weighted: multiplies && !layer.name.endsWith("_project"),
  };
}

function detailOf(config: Record<string, unknown>): string {
  const size = config.kernelSize ?? config.poolSize;
  if (Array.isArray(size)) return `${size.join("x")} / ${[config.strides].flat()[0]}`;
  return typeof config.rate === "number" ? String(config.rate) : "";
}

/** The rows as a table in Markdown: layers with weights, pools and dropout; normalisation is counted with its layer. */
export function describe(model: LayersModel, inputShape: readonly [number, number, number]): string {
  const rows = layerRows(model, inputShape);
  const count = (value: number) => value.toLocaleString("en-US");
  const shown = rows.filter(({ kind }) => !["InputLayer", "Activation", "BatchNormalization", "Add"].includes(kind));
  const line = (cells: readonly (string | number)[]) => `| ${cells.join(" | ")} |`;
  const sum = (key: "parameters" | "multiplications") => count(rows.reduce((total, row) => total + row[key], 0));
  let weighted = 0;
  return [
    line(["#", "layer", "kind", "size / stride", "output", "parameters", "multiplications"]),
    line(["---:", "---", "---", "---", "---", "---:", "---:"]),
    ...shown.map((row) => {
      const number = row.weighted ? String(++weighted) : "";
      const normal = rows.find(({ name }) => name === normOf(row.name))?.parameters ?? 0;
      const cells = [number, row.name, row.kind, row.detail, row.output.join("x")];
      return line([...cells, count(row.parameters + normal), count(row.multiplications)]);
    }),
    line([String(weighted), "total", "", "", "", sum("parameters"), sum("multiplications")]),
  ].join("\n");
}

/** Name of the normalisation behind a convolution in our own models. */
const normOf = (name: string) => (/_conv\d$/.test(name) ? name.replace(/_conv(\d)$/, "_norm$1") : `${name}_norm`);
