import { rmSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openDataset, type Split } from "../../shared/data/dataset.ts";
import { chooseImages } from "../../shared/data/training-part.ts";
import { coded, realData, temporary, writeSmallSet } from "./support.ts";

const LABELS = Array.from({ length: 203 }, (_, i) => (i % 7 === 0 ? 1 : i % 3 === 0 ? 2 : 3));
const count = (labels: Iterable<number>, label: number) => [...labels].filter((other) => other === label).length;

function pixels(split: Split, id: number): string {
  const { channels, height, width } = split.shape;
  const into = new Uint8Array(channels * height * width);
  split.read(id, into);
  return into.join();
}

test("what is held out is one in so many of every class, the rest is trained on, and the seed decides which", () => {
  const { trained, heldOut } = chooseImages({ kind: "holdOut", oneIn: 10, seed: 1 }, LABELS, []);
  expect([...trained, ...heldOut!].sort((a, b) => a - b)).toEqual(LABELS.map((_, id) => id));
  for (const label of [1, 2, 3]) {
    const share =
      count(
        [...heldOut!].map((id) => LABELS[id]!),
        label,
      ) / count(LABELS, label);
    expect(Math.abs(share - 0.1) * count(LABELS, label)).toBeLessThan(1);
  }
  expect([...trained]).toEqual([...trained].sort((a, b) => a - b));
  expect(chooseImages({ kind: "holdOut", oneIn: 10, seed: 1 }, LABELS, []).heldOut).toEqual(heldOut);
  expect(chooseImages({ kind: "holdOut", oneIn: 10, seed: 2 }, LABELS, []).heldOut).not.toEqual(heldOut);
});

test("a data set with images held out evaluates on them, and opens without any test images", () => {
  const directory = writeSmallSet(temporary("part"), { train: LABELS, test: [1, 2, 3] });
  const whole = openDataset(directory);
  for (const name of ["test_X.bin", "test_y.bin"]) rmSync(join(directory, name));
  const part = { kind: "holdOut", oneIn: 4, seed: 3 } as const;
  const { trained, heldOut } = chooseImages(part, LABELS, []);
  const { train, test: evaluated } = openDataset(directory, part);
  expect([train.count, evaluated.count]).toEqual([trained.length, heldOut!.length]);
  for (const [split, places] of [
    [train, trained],
    [evaluated, heldOut!],
  ] as const) {
    places.forEach((place, id) => {
      expect(split.labels[id]).toBe(LABELS[place]! - 1);
      expect(pixels(split, id)).toBe(pixels(whole.train, place));
    });
  }
  coded("LS_DATA_MISSING", () => openDataset(directory));
});

test("a fold is trained on as it stands in the file, and evaluated on the test images", () => {
  const folds = "4 0 7\n1 2 3\n";
  const directory = writeSmallSet(temporary("part"), { train: LABELS, test: [1, 2, 3], folds });
  const { train, test: evaluated } = openDataset(directory, { kind: "fold", fold: 1 });
  expect([...train.labels]).toEqual([4, 0, 7].map((place) => LABELS[place]! - 1));
  const whole = openDataset(directory);
  expect(pixels(train, 2)).toBe(pixels(whole.train, 7));
  expect(pixels(evaluated, 1)).toBe(pixels(whole.test, 1));
  expect(coded("LS_DATA_PART", () => openDataset(directory, { kind: "fold", fold: 3 })).message).toContain(
    "folds 1 to 2",
  );
  const none = writeSmallSet(temporary("part"), { train: [1, 2, 1], test: [1] });
  coded("LS_DATA_PART", () => openDataset(none, { kind: "fold", fold: 1 }));
});

test("as many images are held out as there are, or it is refused", () => {
  coded("LS_DATA_PART", () => chooseImages({ kind: "holdOut", oneIn: 10, seed: 1 }, [], []));
});

test.skipIf(realData() === null)("of STL-10, a tenth is 50 images of every class, and a fold has 1,000", () => {
  const { test: heldOut } = openDataset(realData()!, { kind: "holdOut", oneIn: 10, seed: 1 });
  for (let label = 0; label < 10; label++) expect(count(heldOut.labels, label)).toBe(50);
  expect(openDataset(realData()!, { kind: "fold", fold: 10 }).train.count).toBe(1000);
});
