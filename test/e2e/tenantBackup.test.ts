import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";
import {
  OWNED_TABLES,
  openQuery,
  type Query,
  rowsOf,
  SHOP_ROLE_SQL,
  SHOP_TENANTS,
  seedSql,
  TENANT_SHOP_SQL,
  tenantId,
} from "../support/tenantShop.js";

let server: TestPostgres;
let site: TestSite;
let shop: Awaited<ReturnType<typeof openQuery>>;
const sql: Query = (text, values) => shop.sql(text, values);

beforeAll(async () => {
  server = await startPostgres();
  await query(server.url(), "create database shop");
  shop = await openQuery(server.url("shop"));
  await sql(TENANT_SHOP_SQL + SHOP_ROLE_SQL + seedSql(1, 20, 6));
  site = await makeSite({
    url: server.url("shop"),
    storages: (place) =>
      ["one", "two"].map((name) => `- {name: ${name}, kind: local, path: ${place}/${name}}`),
    more: SHOP_TENANTS,
  });
});
afterAll(async () => {
  await shop.close();
  await site.remove();
  await server.stop();
});

describe("a backup of tenants", () => {
  test("holds every active tenant, all of one moment", async () => {
    const done = await site.json(["backup", "tenant", "--all"]);
    expect(done).toMatchObject({ status: "completed", failed: [] });
    expect(done.backups.length).toBe(18);
    expect(OWNED_TABLES.length).toBe(18);
    expect((await rowsOf(sql, tenantId(1))).items?.length).toBe(6);
  });
});
