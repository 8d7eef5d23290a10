import { LockstepError } from "../errors.ts";

/** Names of the classes in the order of their labels: one a line. @throws LockstepError LS_DATA_NAMES. */
export function parseClassNames(text: string, file: string): string[] {
  const names = text.split("\n").map((line) => line.trim());
  while (names.at(-1) === "") names.pop();
  const wrong = (line: number, what: string) =>
    new LockstepError("LS_DATA_NAMES", `${file}: line ${line} ${what}.`, {
      hint: "One name for each class, in the order of the labels.",
      exitCode: 3,
    });
  if (names.length === 0) throw wrong(1, "should hold the first class's name");
  names.forEach((name, i) => {
    if (name === "") throw wrong(i + 1, "is empty");
    if (names.indexOf(name) < i) throw wrong(i + 1, `repeats the name ${name}`);
  });
  return names;
}

/**
 * The folds of the evaluation protocol: one a line, sample ids of training images counted from 0.
 * @throws LockstepError LS_DATA_FOLDS, naming line and byte.
 */
export function parseFolds(text: string, file: string, trainImages: number): number[][] {
  const folds: number[][] = [];
  let lineStart = 0;
  for (const line of text.split("\n")) {
    const ids: number[] = [];
    for (const match of line.matchAll(/\S+/g)) {
      const id = /^\d+$/.test(match[0]) ? Number(match[0]) : Number.NaN;
      if (!(id < trainImages)) {
        throw new LockstepError(
          "LS_DATA_FOLDS",
          `${file}: ${JSON.stringify(match[0])} in line ${folds.length + 1}, byte ${lineStart + match.index}, is no ` +
            `sample id from 0 to ${trainImages - 1}.`,
          { hint: "One fold a line, ids of training images counted from 0.", exitCode: 3 },
        );
      }
      ids.push(id);
    }
    if (ids.length > 0) folds.push(ids);
    lineStart += line.length + 1;
  }
  return folds;
}
