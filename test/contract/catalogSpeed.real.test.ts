import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Catalog } from "../../src/catalog/catalog.js";
import { openCatalog } from "../../src/catalog/catalogs.js";
import { systemClock } from "../../src/sys/clock.js";
import { startPostgres } from "../support/postgres.js";
import { backupNumber } from "./catalogRecords.js";

const BACKUPS = 100_000;
const BATCH = 5_000;
const LIMIT_MS = 50;

const places: [
  name: string,
  open: () => Promise<{ url: string; settle(): Promise<void>; stop(): Promise<void> }>,
][] = [
  [
    "SQLite",
    async () => {
      const directory = await mkdtemp(join(tmpdir(), "jbackup-speed-"));
      return {
        url: `sqlite:${directory}/catalog.db`,
        settle: async () => {},
        stop: () => rm(directory, { recursive: true }),
      };
    },
  ],
  [
    "PostgreSQL",
    async () => {
      const server = await startPostgres();
      const url = server.url("postgres");
      return { url, settle: () => analyze(url), stop: () => server.stop() };
    },
  ],
];

/** What autovacuum does within a minute: without it PostgreSQL guesses, and reads all copies for a few of them. */
async function analyze(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query("analyze");
  await client.end();
}

describe.each(places)("with 100,000 backups in %s", (name, openPlace) => {
  let catalog: Catalog;
  let stop: () => Promise<void>;
  beforeAll(async () => {
    const place = await openPlace();
    stop = place.stop;
    catalog = await openCatalog(place.url, { clock: systemClock });
    const begin = performance.now();
    for (let first = 0; first < BACKUPS; first += BATCH)
      await catalog.saveBackups(
        Array.from({ length: BATCH }, (_, offset) => {
          const number = first + offset;
          return number % 50 === 0
            ? backupNumber(number, { status: number % 5_000 === 0 ? "failed" : "verified" })
            : backupNumber(number, { kind: "tenant", tenantId: `t${number % 2_000}` });
        }),
      );
    await place.settle();
    console.log(`${name}: ${BACKUPS} backups saved in ${Math.round(performance.now() - begin)} ms`);
  });
  afterAll(async () => {
    await catalog.close();
    await stop();
  });

  const questions: [question: string, ask: (catalog: Catalog) => Promise<unknown[]>, answers: number][] = [
    ["the newest", (it) => it.backups({ limit: 50 }), 50],
    ["the newest full ones", (it) => it.backups({ kind: "full", limit: 50 }), 50],
    ["those of a tenant", (it) => it.backups({ tenantId: "t7" }), 50],
    ["the failed ones", (it) => it.backups({ status: ["failed"] }), 20],
    [
      "those of an hour",
      (it) => it.backups({ since: backupNumber(50_000).createdAt, until: backupNumber(50_100).createdAt }),
      100,
    ],
    ["one by its id", (it) => it.backups({ reference: backupNumber(77_777).id }), 1],
    ["one by its label", (it) => it.backups({ reference: backupNumber(77_777).label }), 1],
    ["those that begin so", (it) => it.backups({ reference: "full-00000007777" }), 10],
    [
      "the newest usable full ones",
      (it) => it.backups({ kind: "full", status: ["verified"], limit: 50 }),
      50,
    ],
    ["what the storages hold", (it) => it.storageUse("2000-01-01"), 3],
    ["the last one of each of a few tenants", (it) => it.lastOfTenants(["t7", "t8", "t9"]), 3],
    ["nothing, by a name that is not there", (it) => it.backups({ reference: "nothing" }), 0],
  ];

  it.each(questions)("finds %s in less than 50 ms", async (question, ask, answers) => {
    const times: number[] = [];
    for (let turn = 0; turn < 7; turn++) {
      const begin = performance.now();
      expect(await ask(catalog)).toHaveLength(answers);
      times.push(performance.now() - begin);
    }
    const median = times.sort((a, b) => a - b)[3] ?? Number.POSITIVE_INFINITY;
    console.log(`${name}: ${question}: ${median.toFixed(1)} ms`);
    expect(median).toBeLessThan(LIMIT_MS);
  });
});
