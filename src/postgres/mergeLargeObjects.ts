import { quoteName, type Session } from "./connection.js";
import type { ConflictPolicy } from "./mergeCompare.js";
import { verb } from "./mergeSql.js";

const PIECE_BYTES = 1_048_576;
const IDS_AT_ONCE = 5_000;

/** Large objects that are gone come back under their own numbers; those that exist stay as they are. */
export async function addLargeObjects(
  source: Session,
  target: Session,
  policy: ConflictPolicy,
  signal: AbortSignal,
): Promise<string[]> {
  let added = 0;
  let present = 0;
  let after = "0";
  for (;;) {
    const page = await source.rows<{ id: string }>(
      `select oid::text as id from pg_largeobject_metadata where oid > $1::oid order by oid limit ${IDS_AT_ONCE}`,
      [after],
    );
    if (page.length === 0) break;
    after = page.at(-1)?.id ?? after;
    const missing = await target.rows<{ id: string }>(
      `select id::text from unnest($1::oid[]) id where not exists (select from pg_largeobject_metadata m where m.oid = id) order by id`,
      [page.map(({ id }) => id)],
    );
    for (const { id } of missing) {
      signal.throwIfAborted();
      await copyObject(source, target, id);
    }
    added += missing.length;
    present += page.length - missing.length;
  }
  const objects = (many: number): string => `${many} large ${many === 1 ? "object" : "objects"}`;
  return [
    ...(added > 0 ? [`${objects(added)} ${verb(added, "was", "were")} brought back`] : []),
    ...(present > 0 && policy === "overwrite"
      ? [
          `${objects(present)} ${verb(present, "exists", "exist")} and ${verb(present, "was", "were")} not compared`,
        ]
      : []),
  ];
}

async function copyObject(source: Session, target: Session, id: string): Promise<void> {
  await target.rows("select lo_create($1::oid)::text as id", [id]);
  for (let offset = 0; ; offset += PIECE_BYTES) {
    const [piece] = await source.rows<{ bytes: string }>(
      `select lo_get($1::oid, $2::bigint, ${PIECE_BYTES})::text as bytes`,
      [id, offset],
    );
    const bytes = piece?.bytes ?? "\\x";
    if (bytes === "\\x") break;
    await target.rows("select lo_put($1::oid, $2::bigint, $3::bytea)", [id, offset, bytes]);
  }
  await grantAsBefore(source, target, id);
}

/** Both databases are of one server: its roles are the same. */
async function grantAsBefore(source: Session, target: Session, id: string): Promise<void> {
  const [object] = await source.rows<{ owner: string }>(
    "select pg_get_userbyid(lomowner) as owner from pg_largeobject_metadata where oid = $1::oid",
    [id],
  );
  const grants = await source.rows<{ who: string | null; what: string }>(
    `select case a.grantee when 0 then null else pg_get_userbyid(a.grantee) end as who, a.privilege_type as what
       from pg_largeobject_metadata m, aclexplode(m.lomacl) a where m.oid = $1::oid and a.grantee <> m.lomowner`,
    [id],
  );
  for (const { who, what } of grants)
    await target.run(
      `grant ${what} on large object ${BigInt(id)} to ${who === null ? "public" : quoteName(who)}`,
    );
  const [own] = await target.rows<{ name: string }>("select current_user::text as name");
  if (object && object.owner !== own?.name)
    await target.run(`alter large object ${BigInt(id)} owner to ${quoteName(object.owner)}`);
}

/** Whether one of the tables points at large objects, as far as its column types tell. */
export async function pointsAtLargeObjects(target: Session, oids: string[]): Promise<boolean> {
  const rows = await target.rows(
    `select 1 as found from pg_attribute a join pg_type t on t.oid = a.atttypid
      where a.attrelid = any($1::oid[]) and a.attnum > 0 and not a.attisdropped and t.typname in ('oid', 'lo') limit 1`,
    [oids],
  );
  return rows.length > 0;
}
