import { DOMAIN, Stream } from "../../shared/plan/random.ts";

/**
 * One picture of the generated set: a shape with a texture on a graded background, with noise. The class is shape and
 * texture; its colour hints at it and no more. Only operations that every machine rounds alike: the same bytes everywhere.
 */
const SHAPES = ["disc", "square", "triangle", "ring", "cross"] as const;
const TEXTURES = ["plain", "striped", "checked", "dotted"] as const;
type Shape = (typeof SHAPES)[number];
type Texture = (typeof TEXTURES)[number];

/** Shapes times textures. */
export const MOST_CLASSES = SHAPES.length * TEXTURES.length;

const COLOURS = [
  [214, 69, 65],
  [68, 138, 214],
  [92, 184, 92],
  [236, 183, 49],
  [155, 89, 182],
  [72, 201, 199],
  [230, 126, 34],
] as const;

const shapeOf = (label: number): Shape => SHAPES[label % SHAPES.length]!;
const textureOf = (label: number): Texture =>
  TEXTURES[(Math.floor(label / SHAPES.length) + (label % SHAPES.length)) % TEXTURES.length]!;

/** The name of a class, counted from 0. Any MOST_CLASSES labels in a row have different ones. */
export const classNameOf = (label: number): string => `${textureOf(label)} ${shapeOf(label)}`;

/** Draws image `id` of split 0 (train) or 1 (test) as three planes of columns, as the layout has them. */
export function drawImage(seed: number, split: 0 | 1, id: number, label: number, side: number, into: Uint8Array): void {
  const draw = new Stream(seed, DOMAIN.synthetic, split, id);
  const near = (colour: readonly number[], spread: number) =>
    colour.map((value) => value + draw.between(-spread, spread));
  const scale = draw.between(0.45, 0.8);
  const [centreX, centreY] = [draw.between(-0.25, 0.25), draw.between(-0.25, 0.25)];
  // A turn by up to 44 degrees from one number: (1 - t^2, 2t) / (1 + t^2) lies on the unit circle.
  const t = draw.between(-0.4, 0.4);
  const [cosine, sine] = [(1 - t * t) / (1 + t * t), (2 * t) / (1 + t * t)];
  const pitch = draw.between(2.2, 3);
  const phase = draw.uniform();
  const light = near(COLOURS[(label * 3) % COLOURS.length]!, 60);
  const dark = light.map((value) => value * 0.35);
  const [above, below] = [near([128, 128, 128], 90), near([128, 128, 128], 90)];
  const noise = draw.between(10, 40);
  const shape = shapeOf(label);
  const texture = textureOf(label);
  const plane = side * side;
  for (let column = 0; column < side; column++) {
    for (let row = 0; row < side; row++) {
      const x = ((column + 0.5) / side) * 2 - 1 - centreX;
      const y = ((row + 0.5) / side) * 2 - 1 - centreY;
      const u = (x * cosine + y * sine) / scale;
      const v = (y * cosine - x * sine) / scale;
      const colour = !isInside(shape, u, v)
        ? null
        : isDark(texture, u * pitch + phase, v * pitch + phase)
          ? dark
          : light;
      const share = row / side;
      const at = column * side + row;
      for (let channel = 0; channel < 3; channel++) {
        const ground = above[channel]! + share * (below[channel]! - above[channel]!);
        const value = (colour === null ? ground : colour[channel]!) + draw.between(-noise, noise);
        into[channel * plane + at] = Math.max(0, Math.min(255, Math.floor(value)));
      }
    }
  }
}

function isInside(shape: Shape, u: number, v: number): boolean {
  const across = Math.abs(u);
  const down = Math.abs(v);
  switch (shape) {
    case "disc":
      return u * u + v * v < 1;
    case "square":
      return across < 0.85 && down < 0.85;
    case "triangle":
      return v < 0.8 && v > 2 * across - 1;
    case "ring":
      return u * u + v * v < 1 && u * u + v * v > 0.35;
    case "cross":
      return (across < 0.3 && down < 1) || (down < 0.3 && across < 1);
  }
}

/** Whether a texture is dark at (u, v), in periods. */
function isDark(texture: Texture, u: number, v: number): boolean {
  const odd = (value: number) => (Math.floor(value * 2) & 1) === 1;
  const fraction = (value: number) => value - Math.floor(value) - 0.5;
  switch (texture) {
    case "plain":
      return false;
    case "striped":
      return odd(v);
    case "checked":
      return odd(u) !== odd(v);
    case "dotted":
      return fraction(u) ** 2 + fraction(v) ** 2 < 0.09;
  }
}
