import { expect, test } from "vitest";
import { goneTenants } from "../../../src/engine/tenants/gone.js";
import { openTestSite } from "../../support/openedSite.js";
import { makeSite } from "../../support/site.js";

const HOUR = 3_600_000;

test("after more hourly runs than are read, a tenant is gone since the first of them", async () => {
  const made = await makeSite({
    url: "postgresql://nobody@127.0.0.1:1/shop",
    more: ["tenants: {table: app.tenants, idColumn: id}"],
  });
  const site = await openTestSite(made);
  try {
    const first = Date.now() - 800 * HOUR;
    const since = new Date(first).toISOString();
    for (let nth = 0; nth < 520; nth++)
      await site.catalog.saveRun({
        id: site.newId(),
        job: "backup-tenant",
        // those that fail note nothing, and push none out that does
        status: nth > 500 ? "failed" : "succeeded",
        startedAt: new Date(first + nth * HOUR).toISOString(),
        finishedAt: new Date(first + nth * HOUR + 1_000).toISOString(),
        host: "elsewhere",
        pid: 1,
        exitCode: null,
        error: null,
        metadata: { scope: "whole", of: "7401 shop", gone: { 7: since } },
      });
    const there = { ids: new Set(["1"]), of: "7401 shop" };
    const gone = await goneTenants(site, async () => there);
    expect([...gone.keys()]).toEqual(["7"]);
    expect(gone.get("7")?.since.toISOString()).toBe(since);
    expect(await goneTenants(site, async () => ({ ...there, of: "7402 shop" }))).toEqual(new Map());
    expect(await goneTenants(site, async () => ({ ...there, ids: new Set(["7"]) }))).toEqual(new Map());
  } finally {
    await site.close();
    await made.remove();
  }
});
