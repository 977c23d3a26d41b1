import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, beforeAll, expect, test } from "vitest";
import { backupTenants } from "../../src/engine/backupTenants.js";
import { cleanup } from "../../src/engine/cleanup.js";
import type { Progress, Site } from "../../src/engine/site.js";
import { query } from "../support/awkward.js";
import { openTestSite } from "../support/openedSite.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";

// a look at every second batch of a hundred
const TENANTS = 2_000;
const LOOKS = 10;

let server: TestPostgres;
let site: TestSite;

beforeAll(async () => {
  server = await startPostgres();
  await query(server.url(), "create database many");
  for (const sql of [
    "create table tenants (id text primary key, name text)",
    "create table notes (id serial primary key, tenant text not null references tenants, note text)",
    `insert into tenants select 'tenant-' || n, 'Shop ' || n from generate_series(1, ${TENANTS}) n`,
    "insert into notes (tenant, note) select id, md5(id) from tenants",
    "create index on notes (tenant)",
  ])
    await query(server.url("many"), sql);
  site = await makeSite({ url: server.url("many"), more: ["tenants: {table: tenants, nameColumn: name}"] });
});

afterAll(async () => {
  await site?.remove();
  await server?.stop();
});

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** How many bytes of objects more are held for each further one, by what is left after everything else was collected. */
async function growthOf(task: string, work: (site: Site) => Promise<unknown>): Promise<number> {
  const seen: number[] = [];
  let seenAt = 0;
  let step = 0;
  const look = ({ task: now, done, total }: Progress): void => {
    step = Number(total) / LOOKS;
    if (now !== task || done < seenAt + step) return;
    for (let again = 0; again < 2; again++) collectGarbage();
    seen.push(process.memoryUsage().heapUsed);
    seenAt = done;
  };
  const opened = await openTestSite(site, {}, look);
  try {
    await work(opened);
  } finally {
    await opened.close();
  }
  expect(seen).toHaveLength(LOOKS);
  // what is on its way differs from moment to moment
  const [first, last] = [Math.min(...seen.slice(0, 3)), Math.min(...seen.slice(-3))];
  const grown = (last - first) / (step * (LOOKS - 3));
  console.log(`${task}: ${Math.round(grown)} bytes more for each`);
  return grown;
}

const backUpAll = (opened: Site): Promise<unknown> =>
  backupTenants(opened, { tenants: "all", note: null, acceptShrunken: false });
const planCleanup = (opened: Site): Promise<unknown> =>
  cleanup(opened, { dryRun: true }, () => Promise.resolve());

test("a backup of all tenants holds next to nothing of those that it is done with", async () => {
  for (const what of ["all anew", "all unchanged"]) {
    const grown = await growthOf("backing up tenants", backUpAll);
    expect(grown, what).toBeLessThan(1_200);
  }
});

test("what verify and cleanup hold of a backup is a small part of it", async () => {
  expect(await growthOf("reading manifests", planCleanup)).toBeLessThan(1_500);
});
