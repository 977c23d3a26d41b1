import fc from "fast-check";
import { expect, test } from "vitest";
import { inGroups } from "../../src/postgres/mergeOrder.js";

const graph = fc.integer({ min: 1, max: 9 }).chain((size) =>
  fc.record({
    nodes: fc.constant(Array.from({ length: size }, (_, at) => at)),
    edges: fc.array(fc.record({ node: fc.nat({ max: size - 1 }), after: fc.nat({ max: size - 1 }) }), {
      maxLength: 20,
    }),
  }),
);

test("every node is in one group, after all groups that it depends on, and with those that depend on each other", () => {
  fc.assert(
    fc.property(graph, ({ nodes, edges }) => {
      const reach = nodes.map((from) =>
        nodes.map((to) => edges.some((e) => e.node === from && e.after === to)),
      );
      const reaches = (from: number, to: number): boolean => reach[from]?.[to] ?? false;
      for (const via of nodes)
        for (const from of nodes)
          for (const to of nodes)
            if (reaches(from, via) && reaches(via, to)) (reach[from] as boolean[])[to] = true;
      const groups = inGroups(nodes, edges);
      expect(groups.flat().sort((a, b) => a - b)).toEqual(nodes);
      const at = (node: number): number => groups.findIndex((group) => group.includes(node));
      for (const from of nodes)
        for (const to of nodes) {
          if (from === to) continue;
          const isCircle = reaches(from, to) && reaches(to, from);
          expect(at(from) === at(to)).toBe(isCircle);
          if (reaches(from, to) && !isCircle) expect(at(from)).toBeGreaterThan(at(to));
        }
    }),
    { numRuns: 500 },
  );
});
