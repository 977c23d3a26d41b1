/** Something that must come after others. */
export interface Edge<Node> {
  node: Node;
  after: Node;
}

/**
 * Groups of nodes in an order in which everything comes after what it must. A group of several is a circle: within it no
 * order is right. (Tarjan's strongly connected components, which come out with the last of each chain first.)
 */
export function inGroups<Node>(nodes: Node[], edges: Edge<Node>[]): Node[][] {
  const after = Map.groupBy(edges, ({ node }) => node);
  const index = new Map<Node, number>();
  const low = new Map<Node, number>();
  const open: Node[] = [];
  const groups: Node[][] = [];
  const known = new Set(nodes);

  const visit = (node: Node): void => {
    const own = index.size;
    index.set(node, own);
    low.set(node, own);
    open.push(node);
    for (const { after: next } of after.get(node) ?? []) {
      if (!known.has(next)) continue;
      if (!index.has(next)) {
        visit(next);
        low.set(node, Math.min(low.get(node) ?? own, low.get(next) ?? own));
      } else if (open.includes(next)) low.set(node, Math.min(low.get(node) ?? own, index.get(next) ?? own));
    }
    if (low.get(node) === own) groups.push(open.splice(open.indexOf(node)));
  };
  for (const node of nodes) if (!index.has(node)) visit(node);
  return groups;
}
