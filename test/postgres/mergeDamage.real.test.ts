import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makePair, type Pair } from "./mergeSupport.js";

let server: TestPostgres;
beforeAll(async () => {
  server = await startPostgres();
  await query(server.url(), "create role plain login createdb");
});
afterAll(async () => server.stop());

const SCHEMA = `
create table parent (id int primary key, v text, j json);
create table child (of int not null references parent, nr int, v numeric, boss_of int, boss_nr int, primary key (of, nr), foreign key (boss_of, boss_nr) references child deferrable);
create table lone (id int, v text) partition by list (id); alter table lone add primary key (id);
create table lone_some partition of lone for values in (1, 2, 3, 4); create table lone_rest partition of lone default;
create table counted (v text);
insert into parent select g, 'v' || g, '{"a": 1}' from generate_series(1, 8) g;
insert into child select 1 + g % 8, g, g, case when g > 8 then 1 + (g - 8) % 8 end, case when g > 8 then g - 8 end from generate_series(1, 24) g;
insert into lone select g, 'v' || g from generate_series(1, 10) g; insert into counted select 'v' || g % 4 from generate_series(1, 12) g;
`;
const KEYS = { parent: "id", child: "of || '/' || nr", lone: "id" } as const;

interface Damage {
  deleted: number[];
  modified: number[];
  inserted: number[];
  twins: number[];
}
const some = fc.uniqueArray(fc.integer({ min: 1, max: 40 }), { maxLength: 12 });
const damages: fc.Arbitrary<Damage> = fc.record({
  deleted: some,
  modified: some,
  inserted: some,
  twins: some,
});

/** The tables as they were are kept in another schema, so that each run starts alike. */
async function reset(pair: Pair): Promise<void> {
  await pair.sql(
    `begin; set constraints all deferred; delete from child; delete from parent; delete from lone; delete from counted;
     insert into parent select * from kept.parent; insert into child select * from kept.child; insert into lone select * from kept.lone; insert into counted select * from kept.counted; commit`,
  );
}

const anyOf = (column: string, numbers: number[]): string =>
  `${column} = any('{${numbers.join(",")}}'::int[])`;

async function damage(pair: Pair, { deleted, modified, inserted, twins }: Damage): Promise<void> {
  await pair.sql(
    // a row goes with all that refer to it
    `begin; set constraints all deferred;
     with recursive gone as (select c.of, c.nr from child c where ${anyOf("c.nr", deleted)} or ${anyOf("c.of * 3", deleted)}
       union select c.of, c.nr from child c join gone g on (c.boss_of, c.boss_nr) = (g.of, g.nr)) delete from child c using gone where (c.of, c.nr) = (gone.of, gone.nr);
     delete from parent where ${anyOf("id * 3", deleted)}; delete from lone where ${anyOf("id", deleted)}; delete from counted where ctid in (select ctid from counted limit ${deleted.length}); commit`,
    `update parent set j = '{"a":1}' where ${anyOf("id", modified)}; update child set v = v + 0.0 where ${anyOf("nr", modified)}; update child set boss_of = null where ${anyOf("nr - 7", modified)};
     update lone set v = null where ${anyOf("id", modified)}; update counted set v = 'other' where ${anyOf("substr(v, 2)::int", modified)}`,
    `insert into parent select 100 + n, 'new', null from unnest('{${inserted.join(",")}}'::int[]) n; insert into child select 100 + n, n, n from unnest('{${inserted.join(",")}}'::int[]) n;
     insert into lone select 100 + n, 'new' from unnest('{${inserted.join(",")}}'::int[]) n; insert into counted select 'v' || n % 4 from unnest('{${twins.join(",")}}'::int[]) n`,
  );
}

const rowsOf = async (pair: Pair, schema: string) =>
  Promise.all(
    Object.entries(KEYS).map(async ([table, key]) => {
      const rows = await pair.sql(`select (${key})::text as key, t::text as row from ${schema}.${table} t`);
      return new Map(rows.map(({ key: of = "", row = "" }) => [of, row]));
    }),
  );

const counts = async (pair: Pair, schema: string) =>
  new Map(
    (await pair.sql(`select v, count(*)::int as many from ${schema}.counted group by 1`)).map(
      ({ v, many }) => [v, Number(many)],
    ),
  );

const orphans = `select (select count(*) from child c where not exists (select from parent p where p.id = c.of))::int
  + (select count(*) from child c where c.boss_of is not null and c.boss_nr is not null and not exists (select from child b where (b.of, b.nr) = (c.boss_of, c.boss_nr)))::int as n`;

const sum = (numbers: number[]): number => numbers.reduce((total, number) => total + number, 0);

test.each(["postgres", "plain"])(
  "after any damage the live database is what the two make together, as %s",
  async (owner) => {
    const pair = await makePair(server, SCHEMA, owner);
    await pair.sql(
      "create schema kept",
      ...["parent", "child", "lone", "counted"].map(
        (table) => `create table kept.${table} as select * from ${table}`,
      ),
      "grant all on schema kept to public; grant all on all tables in schema kept to public",
    );
    const backup = await rowsOf(pair, "kept");
    const backupCounts = await counts(pair, "kept");
    await fc.assert(
      fc.asyncProperty(
        damages,
        fc.constantFrom("skip" as const, "overwrite" as const),
        async (harm, onConflict) => {
          await reset(pair);
          await damage(pair, harm);
          const live = await rowsOf(pair, "public");
          const liveCounts = await counts(pair, "public");
          const merged = await pair.merge({
            onConflict,
            tables: ["public.parent", "public.child", "public.lone", "public.counted"],
          });

          const expected = backup.map((rows, at) =>
            onConflict === "skip"
              ? new Map([...rows, ...(live[at] ?? [])])
              : new Map([...(live[at] ?? []), ...rows]),
          );
          expect(await rowsOf(pair, "public")).toEqual(expected);
          const values = [...new Set([...backupCounts.keys(), ...liveCounts.keys()])];
          const most = new Map(
            values.map((v) => [v, Math.max(backupCounts.get(v) ?? 0, liveCounts.get(v) ?? 0)]),
          );
          expect(await counts(pair, "public")).toEqual(most);
          expect(await pair.sql(orphans)).toEqual([{ n: 0 }]);

          const told = Object.fromEntries(merged.tables.map((table) => [table.table, table]));
          for (const [at, name] of Object.keys(KEYS).entries()) {
            const [then, now] = [backup[at] ?? new Map(), live[at] ?? new Map()];
            const missing = [...then.keys()].filter((key) => !now.has(key)).length;
            const changed = [...then].filter(([key, row]) => now.has(key) && now.get(key) !== row).length;
            const updated = onConflict === "overwrite" ? changed : 0;
            expect(told[`public.${name}`]).toEqual({
              table: `public.${name}`,
              inserted: missing,
              updated,
              deleted: 0,
              unchanged: then.size - missing - updated,
            });
          }
          const inserted = sum([...most.values()]) - sum([...liveCounts.values()]);
          expect(told["public.counted"]).toMatchObject({
            inserted,
            unchanged: sum([...backupCounts.values()]) - inserted,
          });
        },
      ),
      { numRuns: 40 },
    );
  },
);
