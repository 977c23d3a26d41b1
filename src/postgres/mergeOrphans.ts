import { quoteName, quoteText, type Session } from "./connection.js";
import type { ForeignKey } from "./mergeCatalog.js";
import type { ConflictPolicy, Pending } from "./mergeCompare.js";
import { conflict, count, refersSomewhere, refersTo, rowsOf, verb, write } from "./mergeSql.js";

/** Pending children whose parent neither lives nor is about to. */
function lacking(key: ForeignKey, parent: Pending | undefined): string {
  const coming = parent
    ? ` and not exists (select from ${parent.rows} q where q.jbackup_left is null and ${refersTo(key, "c", "q")})`
    : "";
  return `c.jbackup_left is null and ${refersSomewhere(key, "c")}
    and not exists (select from ${key.parentFrom} p where ${refersTo(key, "c", "p")})${coming}`;
}

/**
 * A row that was left out takes those along that refer to it, and those that refer to them: nothing of the backup may
 * point at nothing. Children that lack a parent for any other reason are a conflict, for nobody asked to lose them.
 */
export async function settleOrphans(
  target: Session,
  all: Pending[],
  keys: ForeignKey[],
  policy: ConflictPolicy,
): Promise<void> {
  const byOid = new Map(all.map((pending) => [pending.table.oid, pending]));
  const edges = keys
    .filter(({ isOnRoots }) => isOnRoots)
    .map((key) => ({ key, child: byOid.get(key.child), parent: byOid.get(key.parent) }))
    .filter((edge): edge is { key: ForeignKey; child: Pending; parent: Pending | undefined } =>
      Boolean(edge.child && edge.child.inserts + edge.child.updates > 0),
    );
  if (policy === "skip") {
    let isSettled = false;
    while (!isSettled) {
      isSettled = true;
      for (const { key, child, parent } of edges)
        if (parent && parent.left.length > 0 && (await followParent(target, key, child, parent)) > 0)
          isSettled = false;
    }
  }
  const problems: string[] = [];
  for (const { key, child, parent } of edges) {
    const found = await count(target, `${child.rows} c where ${lacking(key, parent)}`);
    if (found > 0) problems.push(orphans(found, key));
  }
  if (problems.length > 0) throw conflict(problems, "merge the tables that they refer to as well");
}

const orphans = (many: number, key: ForeignKey): string =>
  `${rowsOf(many, key.childShown)} ${verb(many, "refers", "refer")} by ${key.name} to rows of ${key.parentShown} that do not exist`;

async function followParent(
  target: Session,
  key: ForeignKey,
  child: Pending,
  parent: Pending,
): Promise<number> {
  const found = await write(
    target,
    `update ${child.rows} c set jbackup_left = ${quoteText(key.name)} where ${lacking(key, parent)}
        and exists (select from ${parent.rows} q where q.jbackup_left is not null and ${refersTo(key, "c", "q")})`,
  );
  if (found === 0) return 0;
  child.inserts -= found;
  child.left.push({
    rows: found,
    reason: `${rowsOf(found, child.table.shown)} ${verb(found, "was", "were")} left out: ${verb(found, "it refers", "they refer")} by ${key.name} to rows of ${key.parentShown} that were left out`,
  });
  return found;
}

/** Rows that break the foreign key, as SQL after FROM. */
const broken = (key: ForeignKey): string => {
  const isPartly = `(num_nulls(${key.pairs.map(({ child }) => `c.${quoteName(child)}`).join(", ")}) between 1 and ${key.pairs.length - 1})`;
  const pointsNowhere = `(${refersSomewhere(key, "c")} and not exists (select from ${key.parentFrom} p where ${refersTo(key, "c", "p")}))`;
  return `${key.childFrom} c where ${key.isFull ? `(${pointsNowhere} or ${isPartly})` : pointsNowhere}`;
};

/** Orphans by foreign key that were there before; where nothing the key looks at will change they need no counting. */
export async function orphansBefore(
  target: Session,
  all: Pending[],
  keys: ForeignKey[],
): Promise<Map<ForeignKey, number>> {
  const found = new Map<ForeignKey, number>();
  for (const key of keys) {
    const parent = all.find(({ table }) => table.oid === key.parent);
    if (parent && parent.updates + (parent.deletes ?? 0) > 0)
      found.set(key, await count(target, broken(key)));
  }
  return found;
}

/**
 * With triggers silenced PostgreSQL checks no foreign key, so every one into and out of the touched tables is checked
 * here. Rows of this very transaction may not be orphans; older orphans are somebody else's, and told.
 */
export async function requireNoOrphans(
  target: Session,
  keys: ForeignKey[],
  before: Map<ForeignKey, number>,
): Promise<string[]> {
  const problems: string[] = [];
  const old: string[] = [];
  for (const key of keys) {
    const [row] = await target.rows<{ many: string; ours: string }>(
      `select count(*)::text as many, count(*) filter (where c.xmin::text = (txid_current() % 4294967296)::text)::text as ours from ${broken(key)}`,
    );
    const many = Number(row?.many);
    const caused = Math.max(Number(row?.ours), many - (before.get(key) ?? many));
    if (caused > 0) problems.push(orphans(caused, key));
    else if (many > 0) old.push(`${orphans(many, key)}; it was so before the merge`);
  }
  if (problems.length > 0) throw conflict(problems, "look at the rows in a copy with --into-db");
  return old;
}
