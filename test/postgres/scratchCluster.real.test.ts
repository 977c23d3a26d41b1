import { existsSync } from "node:fs";
import pg from "pg";
import { expect, test } from "vitest";
import { startPostgres } from "../support/postgres.js";

test("a scratch cluster starts, answers and leaves nothing behind", async () => {
  const cluster = await startPostgres();
  const client = new pg.Client(cluster.url());
  await client.connect();
  expect((await client.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
  await client.end();
  await cluster.stop();
  expect(existsSync(cluster.directory)).toBe(false);
});
