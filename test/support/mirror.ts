import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
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

/** A shop and its twin, of which jbackup knows nothing: what only others do happens in both. */
export interface MirroredShop {
  server: TestPostgres;
  site: TestSite;
  sql: Query;
  twin: Query;
  stop(): Promise<void>;
}

export async function mirroredShop(wish: {
  tenants: number;
  rows: number;
  settings?: Record<string, string>;
}): Promise<MirroredShop> {
  const server = await startPostgres(wish.settings ? { settings: wish.settings } : {});
  await query(server.url(), "create database shop");
  const seeding = await openQuery(server.url("shop"));
  await seeding.sql(TENANT_SHOP_SQL + SHOP_ROLE_SQL + seedSql(1, wish.tenants, wish.rows));
  await seeding.close();
  await query(server.url(), "create database twin template shop");
  const shop = await openQuery(server.url("shop"));
  const twin = await openQuery(server.url("twin"));
  const site = await makeSite({ url: server.url("shop"), more: SHOP_TENANTS });
  return {
    server,
    site,
    sql: shop.sql,
    twin: twin.sql,
    stop: async () => {
      await Promise.all([shop.close(), twin.close()]);
      await site.remove();
      await server.stop();
    },
  };
}

/** Ids below zero, where no sequence goes, and every writer's own: both databases come to the same. */
let firstId = 0;
const MOST_TURNS = 1_000_000;

/** Every kind of write there is, all day long, the same in the shop and in its twin. Answers how often. Two writers must not share a tenant. */
export function keepWritingTwice(server: TestPostgres, tenants: string[]): { stop(): Promise<number> } {
  let isStopped = false;
  firstId -= MOST_TURNS;
  let next = firstId;
  const done = (async (): Promise<number> => {
    const clients = ["shop", "twin"].map((name) => new pg.Client({ connectionString: server.url(name) }));
    let turns = 0;
    try {
      for (const client of clients) await client.connect();
      while (!isStopped) {
        const id = tenants[turns % tenants.length];
        const row = next++;
        for (const client of clients)
          await client.query(`begin;
            insert into app.customers (id, tenant_id, name) values (${row}, '${id}', 'new ${row}');
            insert into app.loyalty (id, customer_id, points, at) values (${row}, ${row}, 1, '2026-01-01Z');
            update app.items set price = price + 1 where tenant_id = '${id}';
            update app.tenants set company_name = 'busy ${row}' where id = '${id}';
            insert into app.sales (id, tenant_id, sold_on, total, customer_id) values (${row}, '${id}', '2026-03-03', 1, ${row});
            delete from app.loyalty where id = ${row - 5} and customer_id in (select id from app.customers where tenant_id = '${id}');
            delete from app.repair_photos where ctid in (select p.ctid from app.repair_photos p join app.repairs r on r.id = p.repair_id where r.tenant_id = '${id}' order by p.id limit 1);
            commit`);
        turns++;
        await delay(20); // others need the processor too
      }
    } finally {
      await Promise.all(clients.map((client) => client.end()));
    }
    return turns;
  })();
  done.catch(() => undefined); // awaited by stop
  return {
    stop: () => {
      isStopped = true;
      return done;
    },
  };
}
