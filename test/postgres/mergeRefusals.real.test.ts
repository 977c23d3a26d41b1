import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Secret } from "../../src/domain/secret.js";
import { connect } from "../../src/postgres/connection.js";
import type { MergeRequest } from "../../src/postgres/merge.js";
import { requireTables } from "../../src/postgres/mergeTables.js";
import { contentOf, query } from "../support/awkward.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makePair, type Pair } from "./mergeSupport.js";

let server: TestPostgres;
beforeAll(async () => {
  server = await startPostgres();
  await query(server.url(), "create role plain login createdb");
});
afterAll(async () => server.stop());

/** The merge is refused in exactly these words, and every row of the live database is as before. */
async function refused(
  pair: Pair,
  options: Partial<MergeRequest> & { user?: string },
  expected: { code: string; message: string; hint?: string },
): Promise<void> {
  const before = await contentOf(pair.url);
  const error = await pair.merge(options).then(
    (result) => ({ code: "merged", message: JSON.stringify(result) }),
    (thrown) => thrown,
  );
  expect({ code: error.code, message: error.message }).toEqual({
    code: expected.code,
    message: expected.message,
  });
  if (expected.hint !== undefined) expect(error.hint).toBe(expected.hint);
  expect(await contentOf(pair.url)).toEqual(before);
}

describe("tables that do not fit", () => {
  test("are refused with everything that is wrong at once", async () => {
    const pair = await makePair(
      server,
      `create type mood as enum ('sad', 'ok'); create type pair as (a text, b text);
       create table gone (id int primary key); create table a (id int primary key, lost text, lost_empty text, narrow text, maybe int, m mood, p pair[], computed int);
       insert into a values (1, 'x', null, 'y', null, 'ok', array[row('1', '2')::pair], 4); create table part (id int); create table whole (id int) partition by list (id);`,
    );
    await pair.sql(
      "drop table gone; delete from a",
      `alter table a drop lost, drop lost_empty, alter narrow type varchar(5), add must int not null, add filled int not null default 5,
             add "Odd" text not null, drop computed, add computed int generated always as (id * 2) stored, alter maybe set not null`,
      "alter type mood rename value 'ok' to 'fine'",
      "alter table a drop p; drop type pair; create type pair as (b text, a text); alter table a add p pair[]",
      "alter table whole attach partition part for values in (1)",
    );
    await refused(
      pair,
      {},
      {
        code: "target_refused",
        message:
          "the backup does not fit the live database: the live database has no table public.gone; public.part is a partition of public.whole now; " +
          "public.a.lost holds values, but the live table has no such column; public.a.narrow is text in the backup and character varying(5) now; " +
          "public.a.maybe must not be null now, but is in some rows of the backup; public.a.computed holds values, but is computed in the live table; " +
          'public.a.must must not be null and has no default, but the backup does not know it; public.a."Odd" must not be null and has no default, but the backup does not know it; ' +
          "the type public.mood has no 'ok' any more; the type public.pair is (a text, b text) in the backup and (b text, a text) now",
        hint: "name the tables that fit with --tables, or restore beside with --into-db",
      },
    );
  });

  test("do not matter when others are named", async () => {
    const pair = await makePair(
      server,
      "create table gone (id int primary key); create table kept (id int primary key, v text); insert into kept values (1, 'x')",
    );
    await pair.sql(
      "drop table gone; delete from kept; alter table kept add filled int not null default 7, add at timestamptz default now(), add n int generated always as identity",
    );
    await pair.merge({ tables: ["kept"] });
    expect(await pair.sql("select id, v, filled, at is not null as at, n from kept")).toEqual([
      { id: 1, v: "x", filled: 7, at: true, n: 1 },
    ]);
  });

  test("must be known by the name given", async () => {
    const pair = await makePair(
      server,
      "create schema app; create table app.customers (id int); create table whole (id int) partition by list (id); create table piece partition of whole default",
    );
    await refused(
      pair,
      { tables: ["app.custmers"] },
      {
        code: "usage",
        message: 'the backup has no table "app.custmers"',
        hint: "did you mean app.customers?",
      },
    );
    await refused(
      pair,
      { tables: ["nothing.like.it"] },
      {
        code: "usage",
        message: 'the backup has no table "nothing.like.it"',
        hint: "jbackup show BACKUP lists its tables",
      },
    );
    await refused(
      pair,
      { tables: ["piece"] },
      {
        code: "usage",
        message: "public.piece is a partition of public.whole",
        hint: "name public.whole: its rows are merged as a whole",
      },
    );
  });

  test("are looked for by name before anything is fetched", async () => {
    const pair = await makePair(
      server,
      'create schema app; create table app."Odd one" (id int); create table orders (id int); create table whole (id int) partition by list (id); create table piece partition of whole default',
    );
    const target = await connect({ url: new Secret(pair.url) }, "postgres");
    const recorded = ['app."Odd one"', "public.orders", "public.gone", "public.piece"];
    const look = (...names: string[]) =>
      requireTables(target, names, recorded).then(
        () => "known",
        ({ code, message, hint }) => [code, message, hint],
      );
    try {
      expect(await look("Odd one", '"Odd one"', 'app."Odd one"', "app.Odd one", "whole", "orders")).toBe(
        "known",
      );
      expect(await look("orders", "ordrs")).toEqual([
        "usage",
        'the backup has no table "ordrs"',
        "did you mean orders?",
      ]);
      for (const name of ["gone", "public.gone"])
        expect((await look(name)).slice(0, 2)).toEqual([
          "target_refused",
          "the backup does not fit the live database: the live database has no table public.gone",
        ]);
      expect((await look("public.piece"))[1]).toBe("public.piece is a partition of public.whole");
    } finally {
      await target.close();
    }
  });

  test("may have lost the partition of a row, or gained a stricter check or key", async () => {
    const pair = await makePair(
      server,
      `create table whole (id int primary key) partition by list (id); create table one partition of whole for values in (1); insert into whole values (1);
       create table checked (id int primary key, n int); insert into checked values (1, -1); create table keyed (id int, v text); insert into keyed values (1, 'x'), (1, 'y')`,
    );
    await pair.sql(
      "drop table one; delete from checked; alter table checked add constraint positive check (n > 0); delete from keyed; alter table keyed add primary key (id)",
    );
    const hint = "nothing was changed; restore beside with --into-db to look at the rows";
    await refused(
      pair,
      { tables: ["whole"] },
      {
        code: "conflict",
        message: `public.whole does not take the rows of the backup: no partition of relation "whole" found for row`,
        hint,
      },
    );
    await refused(
      pair,
      { tables: ["checked"] },
      {
        code: "conflict",
        message: `public.checked does not take the rows of the backup: new row for relation "checked" violates check constraint "positive"`,
        hint,
      },
    );
    await refused(
      pair,
      { tables: ["keyed"] },
      {
        code: "conflict",
        message: "the backup holds 1 value of keyed_pkey of public.keyed several times",
      },
    );
  });
});

describe("values that belong to another row", () => {
  const USERS = `create extension btree_gist; create table users (id int primary key, email text, name text, unique (email)); create unique index lower_name on users (lower(name)) where id < 100;
    create table logins (id int primary key, of int not null references users, parent int references logins); create table rooms (id int primary key, room int, during int4range, exclude using gist (room with =, during with &&));
    insert into users values (1, 'a@x', 'Ann'), (2, 'b@x', 'Bob'), (3, 'c@x', 'Cy'), (200, 'd@x', 'ANN'); insert into logins values (10, 1, null), (11, 2, null), (12, 3, 11), (13, 3, 12);
    insert into rooms values (1, 1, '[1,5)'), (2, 1, '[5,9)'), (3, 2, '[1,9)')`;
  const taken = [
    "delete from logins; delete from users",
    "insert into users values (8, 'b@x', 'Else'), (9, 'new@x', 'ANN')",
    "delete from rooms where id < 3; insert into rooms values (9, 1, '[4,6)')",
  ];

  test("are left out with the rows that refer to them, and told, when existing rows win", async () => {
    const pair = await makePair(server, USERS);
    await pair.sql(...taken);
    const merged = await pair.merge();
    expect(merged.tables).toEqual([
      { table: "public.logins", inserted: 0, updated: 0, deleted: 0, unchanged: 0 },
      { table: "public.rooms", inserted: 0, updated: 0, deleted: 0, unchanged: 1 },
      { table: "public.users", inserted: 2, updated: 0, deleted: 0, unchanged: 0 },
    ]);
    expect(merged.warnings).toEqual([
      "2 rows of public.logins were left out: they refer by logins_of_fkey to rows of public.users that were left out",
      "1 row of public.logins was left out: it refers by logins_parent_fkey to rows of public.logins that were left out",
      "1 row of public.logins was left out: it refers by logins_parent_fkey to rows of public.logins that were left out",
      "2 rows of public.rooms were left out: another row holds the same value of rooms_room_during_excl",
      "1 row of public.users was left out: another row holds the same value of lower_name",
      "1 row of public.users was left out: another row holds the same value of users_email_key",
    ]);
    expect(await pair.sql("select id from users order by 1")).toEqual(
      [8, 9, 3, 200].sort((a, b) => a - b).map((id) => ({ id })),
    );
  });

  test.each(["overwrite", "fail"] as const)("are refused with %s", async (onConflict) => {
    const pair = await makePair(server, USERS);
    await pair.sql(...taken);
    await refused(
      pair,
      { onConflict },
      {
        code: "conflict",
        message:
          "2 rows of public.rooms hold the same value of rooms_room_during_excl as another row; 1 row of public.users holds the same value of lower_name as another row; " +
          "1 row of public.users holds the same value of users_email_key as another row",
        hint:
          onConflict === "fail"
            ? "nothing was changed; choose with --on-conflict skip or overwrite, or look at the rows in a copy with --into-db"
            : "nothing was changed; change the rows that are in the way, or use --on-conflict skip",
      },
    );
  });

  test("swap back under overwrite, rotate, and pass to a row that was gone", async () => {
    const pair = await makePair(
      server,
      `create table t (id int primary key, slot int unique, v text, doubled int generated always as (slot * 2) stored); create table child (id int primary key, of int not null references t on delete cascade);
       insert into t values (1, 10, 'a'), (2, 20, 'b'), (3, 30, 'c'), (4, 40, 'd'), (5, 50, 'e'); insert into child select id, id from t where id < 5;
       create table always (code text primary key, n int generated always as identity); insert into always (code) values ('a'), ('b')`,
    );
    const backup = await pair.rows("t", "id");
    await pair.sql(
      "delete from t where id = 5",
      "update t set slot = -id; update t set slot = case id when 1 then 20 when 2 then 30 when 3 then 10 when 4 then 50 end, v = v || '!'",
      "alter table t add mine text default 'kept'; delete from always; insert into always (code) values ('a'), ('b')",
    );
    const merged = await pair.merge({ onConflict: "overwrite" });
    expect(merged.tables).toEqual([
      { table: "public.always", inserted: 0, updated: 2, deleted: 0, unchanged: 0 },
      { table: "public.child", inserted: 0, updated: 0, deleted: 0, unchanged: 4 },
      { table: "public.t", inserted: 1, updated: 4, deleted: 0, unchanged: 0 },
    ]);
    expect(merged.warnings).toEqual([]);
    expect(await pair.sql("select code, n from always order by 1")).toEqual([
      { code: "a", n: 1 },
      { code: "b", n: 2 },
    ]);
    expect(await pair.sql("select distinct mine from t")).toEqual([{ mine: "kept" }]);
    await pair.sql("alter table t drop mine");
    expect(await pair.rows("t", "id")).toEqual(backup);
    expect(await pair.sql("select count(*)::int as n from child")).toEqual([{ n: 4 }]);
  });

  test("that swap are refused where the role cannot silence triggers, unless checked at the end", async () => {
    const pair = await makePair(
      server,
      "create table t (id int primary key, slot int unique, late int unique deferrable); insert into t values (1, 10, 1), (2, 20, 2)",
      "plain",
    );
    await pair.sql("begin; set constraints all deferred; update t set late = 3 - late; commit");
    expect((await pair.merge({ onConflict: "overwrite" })).rowsRestored).toBe(2);
    await pair.sql("update t set slot = -slot; update t set slot = 30 + slot");
    expect(await pair.sql("select id, slot, late from t order by 1")).toEqual([
      { id: 1, slot: 20, late: 1 },
      { id: 2, slot: 10, late: 2 },
    ]);
    await refused(
      pair,
      { onConflict: "overwrite" },
      {
        code: "conflict",
        message: "2 rows of public.t would have to be deleted and inserted anew because of t_slot_key",
        hint: "nothing was changed; run the restore as a superuser, or look at the rows in a copy with --into-db",
      },
    );
  });

  test("of a deferrable constraint are caught although nothing checks it in silence", async () => {
    const pair = await makePair(
      server,
      "create table t (id int primary key, v int unique deferrable); insert into t values (1, 1), (2, 2)",
    );
    await pair.sql("delete from t where id = 1; update t set v = 1 where id = 2");
    expect((await pair.merge()).warnings).toEqual([
      "1 row of public.t was left out: another row holds the same value of t_v_key",
    ]);
    await pair.sql("insert into t values (3, 2)");
    await refused(
      pair,
      { onConflict: "overwrite" },
      { code: "conflict", message: "1 row of public.t holds the same value of t_v_key as another row" },
    );
  });

  test("count null as a value where the constraint does, and find overlaps among many rows quickly", async () => {
    const pair = await makePair(
      server,
      `create table nulls (id int primary key, a int, b text, unique nulls not distinct (a, b)); insert into nulls values (1, null, 'x'), (2, 1, 'y');
       create table spans (id int primary key, span int4range, exclude using gist (span with &&)); insert into spans select g, int4range(g * 2, g * 2 + 2) from generate_series(1, 20000) g`,
    );
    await pair.sql(
      "delete from nulls; insert into nulls values (7, null, 'x'); delete from spans where id > 1; update spans set span = '[100,105)'",
    );
    const merged = await pair.merge();
    expect(merged.rowsRestored).toBe(1 + 19_996);
    expect(merged.warnings).toEqual([
      "1 row of public.nulls was left out: another row holds the same value of nulls_a_b_key",
      "3 rows of public.spans were left out: another row holds the same value of spans_span_excl",
    ]);
  }, 60_000);

  test("are all left out when the backup itself breaks a constraint that is younger than it", async () => {
    const pair = await makePair(
      server,
      "create table t (id int primary key, v text); insert into t values (1, 'x'), (2, 'x'), (3, 'y')",
    );
    await pair.sql("delete from t; alter table t add unique (v)");
    expect((await pair.merge()).warnings).toEqual([
      "2 rows of public.t were left out: another row holds the same value of t_v_key",
    ]);
    expect(await pair.sql("select id from t")).toEqual([{ id: 3 }]);
  });
});

describe("rows without a parent", () => {
  const FAMILY =
    "create table parent (id int primary key, code text unique); create table child (id int primary key, of int references parent, code text references parent (code) on update cascade); insert into parent values (1, 'a'); insert into child values (1, 1, 'a')";

  test.each(["postgres", "plain"])("are refused when the parent is not merged too, as %s", async (owner) => {
    const pair = await makePair(server, FAMILY, owner);
    await pair.sql("delete from child; delete from parent");
    await refused(
      pair,
      { tables: ["child"] },
      {
        code: "conflict",
        message:
          "1 row of public.child refers by child_code_fkey to rows of public.parent that do not exist; 1 row of public.child refers by child_of_fkey to rows of public.parent that do not exist",
        hint: "nothing was changed; merge the tables that they refer to as well",
      },
    );
    expect((await pair.merge()).rowsRestored).toBe(2);
  });

  test("arise when an overwritten parent changes what children refer to: refused", async () => {
    const pair = await makePair(server, FAMILY);
    await pair.sql("update parent set code = 'b'; insert into child values (2, 1, 'b')");
    await refused(
      pair,
      { onConflict: "overwrite" },
      {
        code: "conflict",
        message: "1 row of public.child refers by child_code_fkey to rows of public.parent that do not exist",
      },
    );
  });

  test("that were orphans before are told, not blamed on the merge", async () => {
    const pair = await makePair(server, FAMILY);
    await pair.sql(
      "set session_replication_role = replica; insert into child values (7, 77, null); delete from child where id = 1",
    );
    const merged = await pair.merge();
    expect(merged.warnings).toEqual([
      "1 row of public.child refers by child_of_fkey to rows of public.parent that do not exist; it was so before the merge",
    ]);
    expect(merged.rowsRestored).toBe(1);
  });
});

describe("the live database is left alone", () => {
  test("when row-level security hides rows", async () => {
    const pair = await makePair(
      server,
      "create table t (id int primary key); insert into t values (1)",
      "plain",
    );
    await pair.sql(
      "alter table t enable row level security, force row level security; create policy p on t using (id > 5)",
    );
    await refused(
      pair,
      {},
      {
        code: "postgres_denied",
        message: 'row-level security hides rows of public.t from user "plain"',
        hint: 'a merge must see every row: ALTER ROLE "plain" BYPASSRLS, or name another role in database.url',
      },
    );
  });

  test("when a rule would rewrite what is written", async () => {
    const pair = await makePair(
      server,
      "create table t (id int primary key); insert into t values (1)",
      "plain",
    );
    await pair.sql("delete from t; create rule away as on insert to t do instead nothing");
    await refused(
      pair,
      {},
      {
        code: "target_refused",
        message: "the rules away on public.t would rewrite the merge's statements",
        hint: "run the restore as a superuser, or disable them with ALTER TABLE ... DISABLE RULE for the time of the merge",
      },
    );
    expect((await pair.merge({ user: "postgres" })).rowsRestored).toBe(1);
  });

  test("when it is stopped in the middle", async () => {
    const pair = await makePair(
      server,
      "create table a (id int primary key, v text); insert into a select g, repeat('x', 500) from generate_series(1, 20000) g; create table b (id int primary key); insert into b values (1)",
    );
    await pair.sql("delete from a; delete from b");
    const stop = new AbortController();
    const reason = new Error("stopped by the user");
    await expect(
      pair.merge({
        signal: stop.signal,
        onProgress: (_, __, table) => table === "public.b" && stop.abort(reason),
      }),
    ).rejects.toBe(reason);
    expect(
      await pair.sql("select (select count(*) from a)::int as a, (select count(*) from b)::int as b"),
    ).toEqual([{ a: 0, b: 0 }]);
    const early = new AbortController();
    const copying = pair.merge({
      signal: early.signal,
      onProgress: () => setTimeout(() => early.abort(reason), 2),
    });
    await expect(copying).rejects.toBe(reason);
    expect(
      await pair.sql(
        "select count(*)::int as locks from pg_locks l join pg_class c on c.oid = l.relation where c.relname in ('a', 'b') and l.pid <> pg_backend_pid()",
      ),
    ).toEqual([{ locks: 0 }]);
  });

  test("when a slow statement is stopped", async () => {
    const pair = await makePair(server, "create table t (id int primary key); insert into t values (1)");
    await pair.sql(
      "delete from t; create function slow(int) returns boolean language plpgsql as $$ begin perform pg_sleep(100); return true; end $$; alter table t add check (slow(id))",
    );
    const stop = new AbortController();
    const reason = new Error("stopped by the user");
    const started = Date.now();
    const merging = pair.merge({ signal: stop.signal });
    setTimeout(() => stop.abort(reason), 1_500);
    await expect(merging).rejects.toBe(reason);
    expect(Date.now() - started).toBeLessThan(20_000);
    expect(await pair.sql("select count(*)::int as n from t")).toEqual([{ n: 0 }]);
  });
});
