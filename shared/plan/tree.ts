/**
 * The canonical tree: one fixed binary tree over shard indices 0..V-1. A node [from, to) of more than one shard splits
 * at the largest power of two below its size. Sums follow this tree whatever the workers are, so the rounded result
 * never depends on membership.
 */
export interface ShardRange {
  readonly from: number;
  /** Exclusive. */
  readonly to: number;
}

export const sizeOf = (range: ShardRange): number => range.to - range.from;
export const contains = (outer: ShardRange, inner: ShardRange): boolean =>
  outer.from <= inner.from && inner.to <= outer.to;
const overlaps = (a: ShardRange, b: ShardRange) => a.from < b.to && b.from < a.to;

/** The two children of a tree node of at least two shards. */
export function childrenOf(node: ShardRange): readonly [ShardRange, ShardRange] {
  const size = sizeOf(node);
  if (size < 2) throw new RangeError(`a node of ${size} shard has no children`);
  const left = 2 ** Math.floor(Math.log2(size - 1));
  return [
    { from: node.from, to: node.from + left },
    { from: node.from + left, to: node.to },
  ];
}

/** The maximal nodes of the tree over `shards` that lie inside `range`, from left to right. */
export function maximalNodes(shards: number, range: ShardRange): ShardRange[] {
  const collect = (node: ShardRange): ShardRange[] => {
    if (!overlaps(node, range)) return [];
    if (contains(range, node)) return [node];
    return childrenOf(node).flatMap(collect);
  };
  return sizeOf(range) === 0 ? [] : collect({ from: 0, to: shards });
}

/** A step of a summation: leave a given node on the stack, or replace the two topmost by their sum. */
export type TreeOperation = { readonly kind: "push"; readonly node: ShardRange } | { readonly kind: "add" };

/**
 * How to finish the whole sum from `nodes`, which must tile 0..shards with nodes of the tree: a postfix program.
 * @throws RangeError where the nodes do not tile the tree.
 */
export function finishingOrder(shards: number, nodes: readonly ShardRange[]): TreeOperation[] {
  const given = new Set(nodes.map((node) => `${node.from}-${node.to}`));
  const visit = (node: ShardRange): TreeOperation[] => {
    if (given.has(`${node.from}-${node.to}`)) return [{ kind: "push", node }];
    if (sizeOf(node) === 1) throw new RangeError(`no node covers shard ${node.from}`);
    const [left, right] = childrenOf(node);
    return [...visit(left), ...visit(right), { kind: "add" }];
  };
  return visit({ from: 0, to: shards });
}
