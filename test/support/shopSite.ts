import { afterAll, beforeAll } from "vitest";
import { query } from "./awkward.js";
import { startPostgres, type TestPostgres } from "./postgres.js";
import { makeSite, type TestSite } from "./site.js";
import {
  openQuery,
  type Query,
  SHOP_ROLE_SQL,
  SHOP_TENANTS,
  seedSql,
  TENANT_SHOP_SQL,
} from "./tenantShop.js";

export interface Shop {
  readonly server: TestPostgres;
  /** Two local storages, one and two, and the shop's tenants. */
  readonly site: TestSite;
  readonly sql: Query;
  /** Another site of the same database. */
  siteWith(more: string[], storages?: string[]): Promise<TestSite>;
}

interface Wish {
  tenants: number;
  rows: number;
  /** Further tables, before anything is asked of the schema. */
  more?: string;
  config?: string[];
  settings?: Record<string, string>;
  /** Commands run in the test's own process, unless they start jbackup themselves. */
  here?: boolean;
}

/** A PostgreSQL with the shop in it for all tests of a file. */
export function useShop({
  tenants,
  rows,
  more = "",
  config = SHOP_TENANTS,
  settings,
  here = true,
}: Wish): Shop {
  let server: TestPostgres;
  let site: TestSite;
  let shop: Awaited<ReturnType<typeof openQuery>>;
  const siteWith: Shop["siteWith"] = (lines, storages = ["one", "two"]) =>
    makeSite({
      here,
      url: server.url("shop"),
      storages: (place) => storages.map((name) => `- {name: ${name}, kind: local, path: ${place}/${name}}`),
      more: lines,
    });
  beforeAll(async () => {
    server = await startPostgres(settings ? { settings } : {});
    await query(server.url(), "create database shop");
    shop = await openQuery(server.url("shop"));
    await shop.sql(TENANT_SHOP_SQL + more + SHOP_ROLE_SQL + seedSql(1, tenants, rows));
    site = await siteWith(config);
  });
  afterAll(async () => {
    await shop?.close();
    await site?.remove();
    await server?.stop();
  });
  return {
    get server() {
      return server;
    },
    get site() {
      return site;
    },
    sql: (text, values) => shop.sql(text, values),
    siteWith,
  };
}
