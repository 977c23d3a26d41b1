import { afterAll, beforeAll, expect, test } from "vitest";
import { Secret } from "../../src/domain/secret.js";
import { connect, type Session } from "../../src/postgres/connection.js";
import type { DatabaseFacts } from "../../src/postgres/facts.js";
import { sweepHalfRestored, whileNobodySweeps } from "../../src/postgres/halfRestored.js";
import { createSideDatabase } from "../../src/postgres/sideDatabase.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";

const shop = { site: "shop", host: "db1" };
const books = { site: "books", host: "db1" };
const facts = { encoding: "UTF8", collate: "C.UTF-8", ctype: "C.UTF-8", provider: "c", locale: null };

let server: TestPostgres;
let admin: Session;
beforeAll(async () => {
  server = await startPostgres();
  admin = await connect({ url: new Secret(server.url()) }, "postgres");
});
afterAll(async () => {
  await admin?.close();
  await server?.stop();
});

const sides = async (): Promise<string[]> =>
  (await admin.rows<{ name: string }>("select datname as name from pg_database where datname ~ '_jbackup_'"))
    .map(({ name }) => name)
    .toSorted();

/** As if the process that made it were gone. */
const abandon = async (name: string, by: object): Promise<void> => {
  await admin.run(
    `comment on database ${name} is 'jbackup: restore in progress, do not use ${JSON.stringify(by)}'`,
  );
};

test("a sweep drops what killed restores of its own site left, and no other site's nor one that is being made", async () => {
  const make = (name: string, by: typeof shop) =>
    createSideDatabase(admin, name, facts as unknown as DatabaseFacts, by);
  await make("a_jbackup_00000001", shop); // this process makes it: it lives
  await make("a_jbackup_00000002", shop);
  await abandon("a_jbackup_00000002", shop);
  await make("b_jbackup_00000003", books);
  await abandon("b_jbackup_00000003", books);
  await admin.run("create database c_jbackup_00000004 template template0");

  const other = await connect({ url: new Secret(server.url()) }, "postgres");
  try {
    await whileNobodySweeps(other, async () => {
      expect(await sweepHalfRestored(admin, shop)).toEqual(["a_jbackup_00000002"]);
    });
  } finally {
    await other.close();
  }
  expect(await sides()).toEqual(["a_jbackup_00000001", "b_jbackup_00000003", "c_jbackup_00000004"]);
  expect((await sweepHalfRestored(admin, books)).toSorted()).toEqual([
    "b_jbackup_00000003",
    "c_jbackup_00000004",
  ]);
  expect(await sides()).toEqual(["a_jbackup_00000001"]);
});
