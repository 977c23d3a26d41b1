import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BackupFilter, Catalog } from "../../src/catalog/catalog.js";
import type { Alert, Backup, Restore, Run } from "../../src/domain/backup.js";
import { scopeOf } from "../../src/domain/runScope.js";
import { type CatalogPlace, open } from "./catalog.js";
import { anyAlert, anyBackup, anyRestore, anyRun, backupNumber } from "./catalogRecords.js";

const newestFirst =
  <Record extends { id: string }>(timeOf: (record: Record) => string) =>
  (a: Record, b: Record): number =>
    timeOf(b) === timeOf(a) ? (b.id < a.id ? -1 : 1) : timeOf(b) < timeOf(a) ? -1 : 1;

/** A few times only, so that filters hit them and records share them. */
const someTime = fc.nat({ max: 6 }).map((number) => backupNumber(number).createdAt);
const anyScope = fc.constantFrom({}, { scope: "whole" }, { scope: "part" }, { scope: "refused" });
const orNot = <Value>(values: fc.Arbitrary<Value>): fc.Arbitrary<Value | undefined> =>
  fc.option(values, { nil: undefined });
const given = <Filter extends object>(filter: Filter): Filter =>
  Object.fromEntries(Object.entries(filter).filter(([, value]) => value !== undefined)) as Filter;

/** Queries are compared with what filtering and sorting a plain list would give. */
export function catalogQueries(fresh: () => Promise<CatalogPlace>): void {
  let place: CatalogPlace;
  let catalog: Catalog;
  let backups: Backup[];
  let alerts: Alert[];
  let restores: Restore[];
  let runs: Run[];

  beforeAll(async () => {
    place = await fresh();
    catalog = await open(place);
    const sample = <Record extends { id: string }>(records: fc.Arbitrary<Record>): Record[] =>
      fc.sample(fc.uniqueArray(records, { selector: (one) => one.id, minLength: 60, maxLength: 60 }), {
        numRuns: 1,
        seed: 7,
      })[0] ?? [];
    const word = fc.constantFrom("a", "b", "c");
    backups = sample(
      fc
        .tuple(anyBackup, someTime, fc.option(word))
        .map(([backup, createdAt, tenantId]) => ({ ...backup, createdAt, tenantId })),
    );
    alerts = sample(
      fc
        .tuple(anyAlert, someTime, word, fc.option(word))
        .map(([alert, createdAt, fingerprint, backupId]) => ({ ...alert, createdAt, fingerprint, backupId })),
    );
    restores = sample(
      fc
        .tuple(anyRestore, someTime, word)
        .map(([restore, startedAt, backupId]) => ({ ...restore, startedAt, backupId })),
    );
    runs = sample(
      fc.tuple(anyRun, someTime, word, anyScope).map(([run, startedAt, job, scope]) => ({
        ...run,
        startedAt,
        job,
        metadata: { ...run.metadata, note: '"scope":"part"', ...scope },
      })),
    );
    await catalog.saveBackups(backups);
    for (const alert of alerts) await catalog.saveAlert(alert);
    for (const restore of restores) await catalog.saveRestore(restore);
    for (const run of runs) await catalog.saveRun(run);
  });
  afterAll(async () => {
    await catalog.close();
    await place.close();
  });

  const limit = orNot(fc.nat({ max: 20 }));
  const word = orNot(fc.constantFrom("a", "b", "nobody"));
  const RUNS = { numRuns: 150 };

  it("give the backups asked for, newest first", () =>
    fc.assert(
      fc.asyncProperty(
        fc.record({
          kind: orNot(fc.constantFrom("full", "tenant", "wal", "config")),
          status: orNot(fc.subarray(["completed", "verified", "failed"])),
          tenantId: word,
          since: orNot(someTime),
          until: orNot(someTime),
          limit,
        }),
        async (filter) => {
          const expected = backups
            .filter(
              (one) =>
                (!filter.kind || one.kind === filter.kind) &&
                (!filter.status || (filter.status as string[]).includes(one.status)) &&
                (!filter.tenantId || one.tenantId === filter.tenantId) &&
                (!filter.since || one.createdAt >= filter.since) &&
                (!filter.until || one.createdAt < filter.until),
            )
            .sort(newestFirst((one) => one.createdAt))
            .slice(0, filter.limit);
          expect(await catalog.backups(given(filter) as BackupFilter)).toEqual(expected);
        },
      ),
      RUNS,
    ));

  it("give the alerts asked for, newest first", () =>
    fc.assert(
      fc.asyncProperty(
        fc.record({
          type: orNot(fc.constantFrom("WAL_GAP", "SECURITY")),
          status: orNot(fc.subarray(["active", "resolved"])),
          severity: orNot(fc.subarray(["info", "critical"])),
          backupId: word,
          fingerprint: word,
          since: orNot(someTime),
          limit,
        }),
        async (filter) => {
          const expected = alerts
            .filter(
              (one) =>
                (!filter.type || one.type === filter.type) &&
                (!filter.status || (filter.status as string[]).includes(one.status)) &&
                (!filter.severity || (filter.severity as string[]).includes(one.severity)) &&
                (!filter.backupId || one.backupId === filter.backupId) &&
                (!filter.fingerprint || one.fingerprint === filter.fingerprint) &&
                (!filter.since || one.createdAt >= filter.since),
            )
            .sort(newestFirst((one) => one.createdAt))
            .slice(0, filter.limit);
          expect(await catalog.alerts(given(filter) as never)).toEqual(expected);
        },
      ),
      RUNS,
    ));

  it("give the restores and runs asked for, newest first", () =>
    fc.assert(
      fc.asyncProperty(
        fc.record({
          word,
          restoreStatus: orNot(fc.subarray(["completed", "failed"])),
          runStatus: orNot(fc.subarray(["running", "failed"])),
          since: orNot(someTime),
          scope: orNot(fc.constant("whole")),
          limit,
        }),
        async ({ word: wanted, restoreStatus, runStatus, since, scope, limit: most }) => {
          const restoreFilter = given({ backupId: wanted, status: restoreStatus, since, limit: most });
          expect(await catalog.restores(restoreFilter as never)).toEqual(
            restores
              .filter(
                (one) =>
                  (!wanted || one.backupId === wanted) &&
                  (!restoreStatus || (restoreStatus as string[]).includes(one.status)) &&
                  (!since || one.startedAt >= since),
              )
              .sort(newestFirst((one) => one.startedAt))
              .slice(0, most),
          );
          const runFilter = given({ job: wanted, status: runStatus, scope, limit: most });
          expect(await catalog.runs(runFilter as never)).toEqual(
            runs
              .filter(
                (one) =>
                  (!wanted || one.job === wanted) &&
                  (!runStatus || (runStatus as string[]).includes(one.status)) &&
                  (!scope || scopeOf(one) === scope),
              )
              .sort(newestFirst((one) => one.startedAt))
              .slice(0, most),
          );
        },
      ),
      RUNS,
    ));

  it("compare times as instants, whatever zone they are written in", async () => {
    const at = backupNumber(3).createdAt;
    const elsewhere = at.replace("T02", "T03").replace("Z", "+01:00");
    expect(await catalog.backups({ since: elsewhere })).toEqual(await catalog.backups({ since: at }));
    expect(await catalog.backups({ since: at.replace(".000Z", "Z") })).toEqual(
      await catalog.backups({ since: at }),
    );
  });

  describe("by reference", () => {
    const LABELS = [
      "full-1",
      "full-10",
      "full_10",
      "full%",
      "Full-1",
      "tag-\u{1f600}",
      "tag-\uffff",
      "tag-z",
      "ta",
    ];
    const labelled = (reference: string, filter: BackupFilter = {}): Promise<string[]> =>
      catalog
        .backups({ ...filter, reference, since: backupNumber(5_000).createdAt })
        .then((found) => found.map((backup) => backup.label).sort());

    beforeAll(() =>
      catalog.saveBackups(
        LABELS.map((label, number) =>
          backupNumber(5_000 + number, { label, kind: number === 1 ? "tenant" : "full" }),
        ),
      ),
    );

    it.each([
      ["a whole label wins over longer ones", "full-1", ["full-1"]],
      ["a beginning may be ambiguous", "full", ["full%", "full-1", "full-10", "full_10"]],
      ["_ and % mean themselves", "full_", ["full_10"]],
      ["% means itself", "full%", ["full%"]],
      ["* and ? mean themselves", "full*", []],
      ["case counts", "F", ["Full-1"]],
      ["every letter may follow", "tag-", ["tag-z", "tag-\u{1f600}", "tag-\uffff"]],
      ["the middle does not count", "ull", []],
      ["nothing begins so", "zzz", []],
      ["the empty reference names nothing", "", []],
      ["quotes are harmless", "' or 1=1 --", []],
    ])("%s", async (_, reference, expected) => {
      expect(await labelled(reference)).toEqual(expected.sort());
    });

    it("takes a whole id, and its beginning", async () => {
      expect(await labelled(backupNumber(5_002).id)).toEqual(["full_10"]);
      expect(await labelled("019aa000-0000-7000-8000-00000000500")).toEqual([...LABELS].sort());
    });

    it("narrows by the other filters too", async () => {
      expect(await labelled("full", { kind: "tenant" })).toEqual(["full-10"]);
      expect(await labelled("full", { limit: 1 })).toEqual(["full%"]);
    });
  });
}
