import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makePair } from "./mergeSupport.js";

let server: TestPostgres;
beforeAll(async () => {
  server = await startPostgres();
  await query(server.url(), "create role plain login createdb");
});
afterAll(async () => server.stop());

const KIN = `
create schema "K in";
create table "K in".person (id int primary key, boss int references "K in".person, team int);
create table "K in".team (id int primary key, lead int not null references "K in".person);
alter table "K in".person add constraint in_team foreign key (team) references "K in".team;
create table "K in".a (id int primary key, b int not null); create table "K in".b (id int primary key, a int not null);
alter table "K in".a add foreign key (b) references "K in".b deferrable; alter table "K in".b add foreign key (a) references "K in".a;
create table "K in".day (at date, place text, v int, primary key (at, place)) partition by range (at);
create table "K in".early partition of "K in".day for values from (minvalue) to ('2026-02-01');
create table "K in".later partition of "K in".day default;
create table "K in".note (id int generated always as identity primary key, at date, place text, foreign key (at, place) references "K in".day match full);
insert into "K in".person select g, nullif(g + 1, 31), null from generate_series(1, 30) g order by g desc;
insert into "K in".team select g, g * 3 from generate_series(1, 10) g; update "K in".person set team = 1 + id % 10;
begin; set constraints all deferred; insert into "K in".a select g, g from generate_series(1, 5) g; insert into "K in".b select g, g from generate_series(1, 5) g; commit;
insert into "K in".day select '2026-01-01'::date + g, p, g from generate_series(0, 59) g, unnest(array['x', 'y']) p;
insert into "K in".note (at, place) select at, place from "K in".day; insert into "K in".note (at, place) values (null, null);
`;
const TABLES: [string, string][] = [
  [`"K in".person`, "id"],
  [`"K in".team`, "id"],
  [`"K in".a`, "id"],
  [`"K in".b`, "id"],
  [`"K in".early`, "at || place"],
  [`"K in".later`, "at || place"],
  [`"K in".note`, "id"],
];

describe.each(["postgres", "plain"])("as %s", (owner) => {
  test("rows that refer to each other in circles, to themselves and to partitions come back", async () => {
    const pair = await makePair(server, KIN, owner);
    const all = () => Promise.all(TABLES.map(([table, key]) => pair.rows(table, key)));
    const backup = await all();
    await pair.sql(
      `begin; set constraints all deferred; set session_replication_role = replica;
       delete from "K in".person where id % 3 <> 1; delete from "K in".team where id > 4; delete from "K in".a; delete from "K in".b where id > 2;
       delete from "K in".note where id % 2 = 0; delete from "K in".day where at > '2026-01-20'; commit`,
      // what the damage orphaned is no part of the test
      `set session_replication_role = replica; update "K in".person p set boss = null where not exists (select from "K in".person b where b.id = p.boss); delete from "K in".team t where not exists (select from "K in".person p where p.id = t.lead);
       update "K in".person p set team = null where not exists (select from "K in".team t where t.id = p.team); delete from "K in".note n where at is not null and not exists (select from "K in".day d where (d.at, d.place) = (n.at, n.place)); delete from "K in".b`,
    );
    const damaged = await all();
    expect(damaged).not.toEqual(backup);
    await pair.merge();
    expect(await all()).toEqual(backup.map((rows, at) => new Map([...rows, ...(damaged[at] ?? [])])));
    const merged = await pair.merge({ onConflict: "overwrite" });
    expect(merged.tables.find(({ table }) => table === `"K in".person`)).toMatchObject({
      inserted: 0,
      updated: 10,
    });
    expect(await all()).toEqual(backup);
    expect(await pair.sql(`insert into "K in".note default values returning id`)).toEqual([{ id: 122 }]);
  });
});

test("a circle in which no row can come first is refused by name to a role that cannot silence triggers", async () => {
  const pair = await makePair(
    server,
    `create table a (id int primary key, b int not null); create table b (id int primary key, a int not null); insert into a values (1, 1); insert into b values (1, 1);
     alter table a add constraint a_to_b foreign key (b) references b; alter table b add constraint b_to_a foreign key (a) references a; create table calm (id int primary key); insert into calm values (1)`,
    "plain",
  );
  await pair.sql("delete from calm");
  // nothing of the circle is missing: nothing stands in the way
  expect((await pair.merge()).rowsRestored).toBe(1);
  await pair.sql("set session_replication_role = replica; delete from a; delete from b");
  await expect(pair.merge()).rejects.toMatchObject({
    code: "target_refused",
    message:
      "the foreign keys a_to_b, b_to_a of public.a, public.b form a circle in which no row can come first",
    hint: "run the restore as a superuser, or restore beside with --into-db",
  });
  expect((await pair.merge({ user: "postgres" })).rowsRestored).toBe(2);
});

describe("triggers", () => {
  const TRIGGERS = `create table log (id serial primary key, what text); create table t (id int primary key, v text); insert into t values (1, 'as it was'), (2, 'two');
    create function shout() returns trigger language plpgsql as $$ begin insert into public.log (what) values (tg_op); new.v := upper(new.v); return new; end $$;
    create function swallow() returns trigger language plpgsql as $$ begin return null; end $$`;
  const TRIGGER =
    "create trigger shouting before insert or update on t for each row execute function shout()";

  test("keep silent where the role may silence them", async () => {
    const pair = await makePair(server, TRIGGERS);
    await pair.sql(TRIGGER, "delete from t");
    expect((await pair.merge()).warnings).toEqual([
      "the trigger shouting on public.t was kept silent, as in any restore: what it would write elsewhere is not written",
    ]);
    expect(await pair.sql("select v, (select count(*) from log)::int as logged from t order by id")).toEqual([
      { v: "as it was", logged: 0 },
      { v: "two", logged: 0 },
    ]);
  });

  test("fire otherwise, and what they did is told", async () => {
    const pair = await makePair(server, TRIGGERS, "plain");
    await pair.sql(TRIGGER, "delete from t");
    expect((await pair.merge()).warnings).toEqual([
      "the trigger shouting on public.t fired: what it does besides is not part of the backup",
      "triggers or cascades changed further rows of public.log, not counted here: 2 inserted",
    ]);
    expect(await pair.sql("select v, (select count(*) from log)::int as logged from t order by id")).toEqual([
      { v: "AS IT WAS", logged: 2 },
      { v: "TWO", logged: 2 },
    ]);
  });

  test("that always fire are told even in silence", async () => {
    const pair = await makePair(server, TRIGGERS);
    await pair.sql(TRIGGER, "alter table t enable always trigger shouting", "delete from t where id = 1");
    expect((await pair.merge()).warnings).toEqual([
      "the trigger shouting on public.t fired: what it does besides is not part of the backup",
      "triggers or cascades changed further rows of public.log, not counted here: 1 inserted",
    ]);
  });

  test("that withhold rows fail the merge", async () => {
    const pair = await makePair(server, TRIGGERS, "plain");
    await pair.sql(
      "delete from t",
      "create trigger swallowing before insert on t for each row when (new.id = 1) execute function swallow()",
    );
    await expect(pair.merge()).rejects.toMatchObject({
      code: "conflict",
      message: "only 1 of 2 rows of public.t were written: a trigger withheld the others",
      hint: "nothing was changed; run the restore as a superuser, whose merge keeps triggers silent",
    });
    expect(await pair.sql("select count(*)::int as n from t")).toEqual([{ n: 0 }]);
  });

  test("are silenced by a role that was granted the right", async () => {
    await query(
      server.url(),
      "create role granted login createdb; grant set on parameter session_replication_role to granted",
    );
    const pair = await makePair(server, TRIGGERS, "granted");
    await pair.sql(TRIGGER, "delete from t");
    await pair.merge();
    expect(await pair.sql("select v from t order by id")).toEqual([{ v: "as it was" }, { v: "two" }]);
  });
});

describe("others at work", () => {
  test("wait with writing until the merge is over, and read meanwhile", async () => {
    const pair = await makePair(
      server,
      "create table a (id int primary key); insert into a values (1); create table b (id int primary key); insert into b select generate_series(1, 400000)",
    );
    await pair.sql("delete from a; delete from b");
    // comparing b takes long enough for another session to try
    let writing = Promise.resolve("never started");
    let reading = Promise.resolve<unknown>("never started");
    await pair.merge({
      onProgress: (done, _, table) => {
        if (table !== "public.b" || done !== 1) return;
        reading = pair.sql("select count(*)::int as n from a");
        writing = pair.sql("insert into a values (1)").then(
          () => "written",
          (error) => error.message,
        );
      },
    });
    expect(await reading).toEqual([{ n: 0 }]);
    expect(await writing).toBe('duplicate key value violates unique constraint "a_pkey"');
  });

  test("cannot delete a parent that only refers from outside while its children come back", async () => {
    const pair = await makePair(
      server,
      "create table parent (id int primary key); create table child (id int primary key, of int references parent); insert into parent values (1); insert into child values (1, 1)",
    );
    await pair.sql("delete from child");
    let deleting: Promise<string> = Promise.resolve("never started");
    await pair.merge({
      tables: ["child"],
      onProgress: (done) => {
        if (done === 0)
          deleting = pair.sql("delete from parent").then(
            () => "deleted",
            (error) => error.message,
          );
      },
    });
    expect(await deleting).toBe(
      'update or delete on table "parent" violates foreign key constraint "child_of_fkey" on table "child"',
    );
  });
});
