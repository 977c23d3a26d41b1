import { JBackupError } from "../domain/errors.js";
import type { ForeignKey } from "./mergeCatalog.js";
import type { Pending } from "./mergeCompare.js";
import { inGroups } from "./mergeOrder.js";

export interface Step {
  pending: Pending;
  /** Foreign keys of a circle that are empty at first and filled when all its rows are there. */
  later: ForeignKey[];
}

/** A foreign key that can be empty for a while: it has a column that may be null and does not tell rows apart. */
const canWait = (key: ForeignKey, { table }: Pending): boolean =>
  table.key !== null && emptied(key, table.key.parts).length > (key.isFull ? key.pairs.length - 1 : 0);

/** Its columns that can. */
export const emptied = (key: ForeignKey, parts: { column: string | null }[]): string[] =>
  key.pairs
    .filter(({ child, isNullable }) => isNullable && !parts.some(({ column }) => column === child))
    .map(({ child }) => child);

/**
 * Parents before children. Where PostgreSQL checks at the end, or not at all, the order does not matter; in a circle of
 * keys that are checked at once, those that may be empty are filled in a second step.
 */
export function planSteps(all: Pending[], keys: ForeignKey[], isSilent: boolean): Step[] {
  const writing = all.filter(({ inserts }) => inserts > 0);
  const byOid = new Map(writing.map((pending) => [pending.table.oid, pending]));
  const edges = keys.flatMap((key) => {
    const [node, after] = [byOid.get(key.child), byOid.get(key.parent)];
    return !isSilent && !key.isDeferrable && node && after && node !== after ? [{ key, node, after }] : [];
  });
  const circles = inGroups(writing, edges).filter(({ length }) => length > 1);
  const isInCircle = ({ node, after }: (typeof edges)[number]): boolean =>
    circles.some((circle) => circle.includes(node) && circle.includes(after));
  const waiting = edges.filter(
    (edge) => isInCircle(edge) && edge.key.isOnRoots && canWait(edge.key, edge.node),
  );
  const groups = inGroups(
    writing,
    edges.filter((edge) => !waiting.includes(edge)),
  );
  const stuck = groups.find(({ length }) => length > 1);
  if (stuck) {
    const names = stuck.map(({ table }) => table.shown).sort();
    const constraints = edges
      .filter(({ node, after }) => stuck.includes(node) && stuck.includes(after))
      .map(({ key }) => key.name);
    throw new JBackupError(
      "target_refused",
      `the foreign keys ${constraints.sort().join(", ")} of ${names.join(", ")} form a circle in which no row can come first`,
      { hint: "run the restore as a superuser, or restore beside with --into-db" },
    );
  }
  return groups.flat().map((pending) => ({
    pending,
    later: waiting.filter(({ node }) => node === pending).map(({ key }) => key),
  }));
}
