import { afterAll, beforeAll, expect, test } from "vitest";
import { backupTenants } from "../../src/engine/backupTenants.js";
import { restoreTenants } from "../../src/engine/restoreTenant.js";
import { query } from "../support/awkward.js";
import { openTestSite } from "../support/openedSite.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite } from "../support/site.js";
import { openQuery, type Query } from "../support/tenantShop.js";

let server: TestPostgres;
beforeAll(async () => {
  server = await startPostgres({ settings: { fsync: "off" } });
});
afterAll(() => server.stop());

/** A small generator of its own, so that a failing seed can be run again. */
function dice(seed: number): (below: number) => number {
  let state = seed * 2_654_435_761 + 1;
  return (below) => {
    state = (Math.imul(state ^ (state >>> 15), 2_246_822_519) + 0x9e3779b9) | 0;
    return ((state >>> 0) % 1_000_003) % below;
  };
}

interface Table {
  name: string;
  /** The tenant's own column, or the table above. */
  parent: Table | null;
  hasKey: boolean;
  refersTo: Table | null;
  hasSelf: boolean;
  hasUnique: boolean;
}

function randomTables(roll: (below: number) => number): Table[] {
  const tables: Table[] = [];
  for (let nth = 0; nth < 3 + roll(5); nth++) {
    const keyed = tables.filter(({ hasKey }) => hasKey);
    const parent = keyed.length > 0 && roll(2) === 0 ? (keyed[roll(keyed.length)] ?? null) : null;
    const other = keyed.length > 0 && roll(3) === 0 ? (keyed[roll(keyed.length)] ?? null) : null;
    const hasKey = roll(5) > 0;
    tables.push({
      name: `t${nth}`,
      parent,
      hasKey,
      refersTo: other === parent ? null : other,
      hasSelf: hasKey && roll(3) === 0,
      hasUnique: roll(3) === 0,
    });
  }
  return tables;
}

const TYPES = ["text", "json", "jsonb", "numeric", "bytea", "int[]", "timestamptz", "float8"];

function schemaOf(tables: Table[], roll: (below: number) => number): string {
  const lines = [
    "create table tenants (id int primary key, name text)",
    "create table shared (code text primary key)",
  ];
  for (const { name, parent, hasKey, refersTo, hasSelf, hasUnique } of tables) {
    const columns = [
      ...(hasKey
        ? [roll(2) ? "id bigserial primary key" : "id bigint generated always as identity primary key"]
        : []),
      parent === null
        ? "tenant_id int not null references tenants"
        : `parent bigint not null references ${parent.name}${roll(2) ? " on delete cascade" : ""}`,
      `value ${TYPES[roll(TYPES.length)]}`,
      "kind text references shared",
      ...(refersTo === null
        ? []
        : [`other bigint references ${refersTo.name}${roll(2) ? " deferrable initially deferred" : ""}`]),
      ...(hasSelf ? [`self bigint references ${name}`] : []),
      ...(hasUnique ? ["code text unique"] : []),
      "doubled int generated always as (length(coalesce(note, '')) * 2) stored",
      "note text",
    ];
    lines.push(`create table ${name} (${columns.join(", ")})`);
  }
  return lines.join("; ");
}

const VALUES = `case $type when 'text' then E'a\\tb\\\\' || n when 'json' then '{"n": ' || n || '}' when 'jsonb' then '[' || n || ', null]' when 'numeric' then n || '.50'
  when 'bytea' then '\\x0' || n % 10 when 'int[]' then '{' || n || ',null}' when 'timestamptz' then '2026-01-01 00:00:00.00000' || n % 10 || '+00' else case n % 3 when 0 then 'NaN' else n::text end end`;

async function typeOf(sql: Query, table: string): Promise<string> {
  const [row] = await sql(
    "select format_type(atttypid, atttypmod) as type from pg_attribute where attrelid = $1::regclass and attname = 'value'",
    [table],
  );
  const type = row?.type ?? "text";
  return (
    { "integer[]": "int[]", "timestamp with time zone": "timestamptz", "double precision": "float8" }[type] ??
    type
  );
}

/** Rows of one tenant, `many` more in every table; references stay within the tenant. */
async function fill(sql: Query, tables: Table[], tenant: number, many: number, mark: string): Promise<void> {
  for (const table of tables) {
    const type = await typeOf(sql, table.name);
    const own = (of: Table): string =>
      of.parent === null
        ? `select id from ${of.name} where tenant_id = ${tenant}`
        : `select id from ${of.name} where parent in (${own(of.parent)})`;
    const pick = (of: Table): string =>
      `(array(${own(of)} order by id))[1 + n % greatest(1, (select count(*)::int from (${own(of)}) x))]`;
    const values = [
      [
        table.parent === null ? "tenant_id" : "parent",
        table.parent === null ? String(tenant) : pick(table.parent),
      ],
      ["value", `(${VALUES.replace("$type", `'${type}'`)})::${type === "int[]" ? "int[]" : type}`],
      ["kind", "case n % 3 when 0 then 'red' when 1 then 'blue' end"],
      ["note", `'${mark} ' || n`],
      ...(table.refersTo === null ? [] : [["other", `case when n % 2 = 0 then ${pick(table.refersTo)} end`]]),
      ...(table.hasUnique ? [["code", `'${table.name}-${tenant}-${mark}-' || n`]] : []),
    ];
    const where = table.parent === null ? "" : ` where exists (${own(table.parent)})`;
    await sql(
      `insert into ${table.name} (${values.map(([name]) => name).join(", ")}) select ${values.map(([, value]) => value).join(", ")} from generate_series(1, ${many}) n${where}`,
    );
    if (table.hasSelf)
      await sql(
        `update ${table.name} set self = (select min(id) from (${own(table)}) x) where id in (${own(table)}) and id % 3 = 0`,
      );
  }
}

const ownedBy = (table: Table, tenant: number, alias: string): string =>
  table.parent === null
    ? `${alias}.tenant_id = ${tenant}`
    : `${alias}.parent in (select p.id from ${table.parent.name} p where ${ownedBy(table.parent, tenant, "p")})`;

async function contentOf(
  sql: Query,
  tables: Table[],
  condition: (table: Table) => string,
): Promise<Record<string, string[]>> {
  const found: Record<string, string[]> = {};
  for (const table of tables) {
    const rows = await sql(`select t::text as row from ${table.name} t where ${condition(table)}`);
    found[table.name] = rows.map(({ row }) => row ?? "").sort();
  }
  return found;
}

/** Some of everything that can happen to rows, all of it legal. */
async function damage(
  sql: Query,
  tables: Table[],
  tenant: number,
  roll: (below: number) => number,
): Promise<void> {
  await sql("set session_replication_role = replica");
  for (const table of tables.toReversed()) {
    const own = `${table.name} t where ${ownedBy(table, tenant, "t")}`;
    if (roll(3) === 0)
      await sql(
        `update ${table.name} t set note = 'changed', value = null where ${ownedBy(table, tenant, "t")} and abs(hashtext(t::text)) % 3 = ${roll(3)}`,
      );
    if (roll(3) === 0) await sql(`delete from ${own} and abs(hashtext(t::text)) % 4 = ${roll(4)}`);
    if (table.hasUnique && table.hasKey && roll(2) === 0)
      await sql(`update ${table.name} t set code = code || '-moved' where ${ownedBy(table, tenant, "t")}`);
  }
  // a legal database again: nothing points at nothing
  for (let again = 0; again < 6; again++)
    for (const table of tables) {
      if (table.parent !== null)
        await sql(
          `delete from ${table.name} t where not exists (select from ${table.parent.name} p where p.id = t.parent)`,
        );
      if (table.refersTo !== null)
        await sql(
          `update ${table.name} t set other = null where other is not null and not exists (select from ${table.refersTo.name} p where p.id = t.other)`,
        );
      if (table.hasSelf)
        await sql(
          `update ${table.name} t set self = null where self is not null and not exists (select from ${table.name} p where p.id = t.self)`,
        );
    }
  await sql("set session_replication_role = origin");
  if (roll(2) === 0) await fill(sql, tables, tenant, 1 + roll(3), "later");
}

const SEEDS = Array.from({ length: Number(process.env.TENANT_SEEDS ?? 12) }, (_, nth) => nth + 1);

test.each(SEEDS)(
  "whatever the schema and the damage, a tenant comes back and nobody else is touched (seed %i)",
  async (seed) => {
    const roll = dice(seed);
    const tables = randomTables(roll);
    const name = `random_${seed}`;
    await query(server.url(), `create database ${name}`);
    const { sql, close } = await openQuery(server.url(name));
    const site = await makeSite({
      url: server.url(name),
      more: ["tenants: {table: tenants, nameColumn: name, shared: [shared]}"],
    });
    const opened = await openTestSite(site);
    try {
      await sql(
        `${schemaOf(tables, roll)}; insert into tenants select n, 'tenant ' || n from generate_series(1, 3) n; insert into shared values ('red'), ('blue')`,
      );
      for (const tenant of [1, 2, 3]) await fill(sql, tables, tenant, 3 + roll(6), "first");
      const own = (table: Table): string => ownedBy(table, 2, "t");
      const others = (table: Table): string => `not (${ownedBy(table, 2, "t")})`;
      const before = await contentOf(sql, tables, own);
      await backupTenants(opened, { tenants: ["2"], note: null, acceptShrunken: false });
      await damage(sql, tables, 2, roll);
      const beside = await contentOf(sql, tables, others);
      const request = {
        reference: "latest",
        to: null,
        tenants: ["2"],
        createMissing: true,
        updateExisting: false,
        deleteNew: false,
        tables: [],
        withShared: false,
        triggers: "off" as const,
        prove: "full" as const,
        expectPlan: null,
        intoDatabase: null,
        savesFirst: true,
        reason: "random",
      };
      const nobodyAsked = async () => ({ isSeen: false, mayOverwrite: ["2", "9"] });
      await restoreTenants(opened, { ...request, mode: "full", asTenant: null }, nobodyAsked);
      expect(await contentOf(sql, tables, own)).toEqual(before);
      expect(await contentOf(sql, tables, others)).toEqual(beside);

      await restoreTenants(opened, { ...request, mode: "full", asTenant: "9" }, nobodyAsked);
      expect(await contentOf(sql, tables, own)).toEqual(before);
      const clone = await contentOf(sql, tables, (table) => ownedBy(table, 9, "t"));
      expect(Object.entries(clone).map(([table, rows]) => [table, rows.length])).toEqual(
        Object.entries(before).map(([table, rows]) => [table, rows.length]),
      );
      await sql("set constraints all immediate");
    } finally {
      await opened.close();
      await site.remove();
      await close();
    }
  },
);
