import fc from "fast-check";
import { CompiledQuery } from "kysely";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { CatalogDatabase } from "../../src/catalog/database.js";
import { openPostgres } from "../../src/catalog/postgres.js";
import {
  alertQuery,
  backupQuery,
  beginningWith,
  named,
  restoreQuery,
  runQuery,
  verificationQuery,
} from "../../src/catalog/queries.js";
import { openSqlite } from "../../src/catalog/sqlite.js";
import { systemClock } from "../../src/sys/clock.js";
import { type CatalogPlace, open } from "./catalog.js";
import { anyAlert, anyRun, backupNumber } from "./catalogRecords.js";

const BACKUPS = 6_000;
const STATUSES = ["completed", "completed", "verified", "failed"] as const;

export function catalogPlans(fresh: () => Promise<CatalogPlace>): void {
  let place: CatalogPlace;
  let database: CatalogDatabase;
  beforeAll(async () => {
    place = await fresh();
    const catalog = await open(place);
    const backups = Array.from({ length: BACKUPS }, (_, number) =>
      number % 20 === 0
        ? backupNumber(number, { status: number % 1_000 === 0 ? "failed" : "completed" })
        : backupNumber(number, {
            kind: "tenant",
            tenantId: `t${number % 300}`,
            status: STATUSES[number % 3] ?? "failed",
          }),
    );
    await catalog.saveBackups(backups);
    for (const alert of fc.sample(anyAlert, { numRuns: 300, seed: 1 })) await catalog.saveAlert(alert);
    for (const run of fc.sample(anyRun, { numRuns: 300, seed: 1 })) await catalog.saveRun(run);
    await catalog.close();
    await place.run("analyze");
    database = place.url.startsWith("sqlite:")
      ? await openSqlite(place.url.slice("sqlite:".length), systemClock)
      : await openPostgres(place.url);
    // Small tables would be read whole, and rightly so: what counts is whether an index can answer.
    if (database.schema) await database.db.executeQuery(CompiledQuery.raw("set enable_seqscan = off"));
  });
  afterAll(async () => {
    await database.db.destroy();
    await place.close();
  });

  const plans: [
    question: string,
    index: RegExp,
    query: (db: CatalogDatabase["db"]) => { compile(): CompiledQuery },
  ][] = [
    ["the newest backups", /backups_created_at/, (db) => backupQuery(db, { limit: 50 })],
    ["the newest of a kind", /backups_kind_created_at/, (db) => backupQuery(db, { kind: "full", limit: 50 })],
    ["those of a tenant", /backups_tenant_id_created_at/, (db) => backupQuery(db, { tenantId: "t7" })],
    ["the unfinished ones", /backups_unusable/, (db) => backupQuery(db, { status: ["in_progress"] })],
    ["a whole id or label", /backups_label/, (db) => named(backupQuery(db, {}), "full-000000000012")],
    ["the beginning of one", /backups_label/, (db) => beginningWith(backupQuery(db, {}), "full-00000000001")],
    ["restores of a backup", /restores_backup_id_started_at/, (db) => restoreQuery(db, { backupId: "x" })],
    ["the newest restores", /restores_started_at/, (db) => restoreQuery(db, { limit: 50 })],
    ["running restores", /restores_unfinished/, (db) => restoreQuery(db, { status: ["in_progress"] })],
    [
      "the newest usable ones of a kind",
      /backups_kind_created_at/,
      (db) => backupQuery(db, { kind: "full", status: ["completed", "verified"], limit: 1 }),
    ],
    [
      "the newest check of a storage that passed",
      /verifications_storage_checked_at/,
      (db) => verificationQuery(db, { storage: "local", status: "passed", limit: 1 }),
    ],
    ["alerts of one trouble", /alerts_fingerprint/, (db) => alertQuery(db, { fingerprint: "x" })],
    ["alerts of a type", /alerts_type_created_at/, (db) => alertQuery(db, { type: "WAL_GAP" })],
    ["the newest alerts", /alerts_created_at/, (db) => alertQuery(db, { limit: 50 })],
    ["the newest runs of a job", /runs_job_started_at/, (db) => runQuery(db, { job: "full", limit: 1 })],
    [
      "the newest whole run of a job",
      /runs_job_started_at/,
      (db) => runQuery(db, { job: "full", scope: "whole", limit: 1 }),
    ],
  ];

  it.each(plans)("%s: found by an index", async (_, index, query) => {
    const { sql, parameters } = query(database.db).compile();
    const explain = database.schema ? "explain" : "explain query plan";
    const { rows } = await database.db.executeQuery(CompiledQuery.raw(`${explain} ${sql}`, [...parameters]));
    const plan = rows.map((row) => Object.values(row as object).join(" ")).join("\n");
    expect(plan).toMatch(index);
    expect(plan).not.toMatch(/Seq Scan|SCAN \w+$/m);
  });
}
