/** One entry of a config that two runs have otherwise. */
export interface ConfigDifference {
  /** `recipe.optimizer.momentum`, for example. */
  readonly path: string;
  /** As JSON. */
  readonly a: string;
  readonly b: string;
}

/** All of them in one sentence. */
export const differencesText = (differences: readonly ConfigDifference[]): string =>
  differences.map(({ path, a, b }) => `${path} ${a} -> ${b}`).join("; ");

/**
 * Pure: what differs between two JSON values, in the order of the first. A long list counts as one entry.
 * @param path of the values themselves
 */
export function configDifferences(a: unknown, b: unknown, path = ""): ConfigDifference[] {
  if (isObject(a) && isObject(b)) {
    const keys = [...new Set([...Object.keys(a), ...Object.keys(b)])];
    return keys.flatMap((key) => configDifferences(a[key], b[key], path === "" ? key : `${path}.${key}`));
  }
  if (Array.isArray(a) && Array.isArray(b)) return listDifference(a, b, path);
  return same(a, b) ? [] : [{ path, a: show(a), b: show(b) }];
}

function listDifference(a: readonly unknown[], b: readonly unknown[], path: string): ConfigDifference[] {
  if (same(a, b)) return [];
  if (Math.max(a.length, b.length) <= SHORT) return [{ path, a: show(a), b: show(b) }];
  const shared = Math.min(a.length, b.length);
  const differing = Array.from({ length: shared }, (_, i) => i).filter((i) => !same(a[i], b[i]));
  const [first] = differing;
  if (first === undefined) return [{ path, a: `${a.length} entries`, b: `${b.length} entries, the common ones equal` }];
  const more = differing.length === 1 ? "" : ` (${differing.length} entries differ)`;
  return [{ path: `${path}[${first}]`, a: show(a[first]), b: `${show(b[first])}${more}` }];
}

const SHORT = 8;
const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);
const show = (value: unknown) => (value === undefined ? "absent" : JSON.stringify(value));
