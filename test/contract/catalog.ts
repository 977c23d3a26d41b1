import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Catalog } from "../../src/catalog/catalog.js";
import { openCatalog } from "../../src/catalog/catalogs.js";
import type { Backup, JobRequest, Pin } from "../../src/domain/backup.js";
import { systemClock } from "../../src/sys/clock.js";
import { catalogPlans } from "./catalogPlans.js";
import { catalogQueries } from "./catalogQueries.js";
import {
  anyAlert,
  anyAuditEntry,
  anyBackup,
  anyDelivery,
  anyDrill,
  anyJobRequest,
  anyPin,
  anyRestore,
  anyRun,
  anyVerification,
  backupNumber,
} from "./catalogRecords.js";
import { catalogUsage } from "./catalogUsage.js";

/** An empty database of the test's own. */
export interface CatalogPlace {
  url: string;
  /** The name of a catalog's table in `run`. */
  table(name: string): string;
  /** Any statement, past the catalog. */
  run(statement: string): Promise<Record<string, unknown>[]>;
  close(): Promise<void>;
}

export const open = (place: CatalogPlace): Promise<Catalog> => openCatalog(place.url, { clock: systemClock });

const startProcess = (...words: string[]): Promise<unknown> =>
  promisify(execFile)(process.execPath, [
    fileURLToPath(new URL("./catalogProcess.mjs", import.meta.url)),
    ...words,
  ]);

const auditEntry = { at: backupNumber(1).createdAt, actor: "a", action: "b", subject: "c", detail: {} };

/** What every catalog promises, over a real database. */
export function catalogContract(name: string, fresh: () => Promise<CatalogPlace>): void {
  describe(`the catalog in ${name}`, () => {
    let place: CatalogPlace;
    let catalog: Catalog;
    beforeAll(async () => {
      place = await fresh();
      catalog = await open(place);
    });
    afterAll(async () => {
      await catalog.close();
      await place.close();
    });

    describe("gives back every field of", () => {
      const holds = <Record>(
        records: fc.Arbitrary<Record>,
        save: (record: Record) => Promise<void>,
        find: (record: Record) => Promise<Record[]>,
      ): Promise<void> =>
        fc.assert(
          fc.asyncProperty(records, async (record) => {
            await save(record);
            await save(record);
            expect(await find(record)).toEqual([record]);
          }),
          { numRuns: 60 },
        );
      const withId = <Record extends { id: string }>(records: Record[], { id }: Record): Record[] =>
        records.filter((record) => record.id === id);

      it("a backup and its copies, in their order", () =>
        holds(
          anyBackup,
          (backup) => catalog.saveBackups([backup]),
          (backup) => catalog.backups({ reference: backup.id }),
        ));
      it("a restore", () =>
        holds(
          anyRestore,
          (restore) => catalog.saveRestore(restore),
          async (restore) => withId(await catalog.restores({ backupId: restore.backupId }), restore),
        ));
      it("a verification", () =>
        holds(
          anyVerification.filter((verification) => verification.backupId !== null),
          (verification) => catalog.saveVerification(verification),
          async (verification) =>
            withId(await catalog.verifications({ backupId: String(verification.backupId) }), verification),
        ));
      it("an alert", () =>
        holds(
          anyAlert,
          (alert) => catalog.saveAlert(alert),
          async (alert) => withId(await catalog.alerts({ fingerprint: alert.fingerprint }), alert),
        ));
      it("a run", () =>
        holds(
          anyRun,
          (run) => catalog.saveRun(run),
          async (run) => withId(await catalog.runs({ job: run.job }), run),
        ));
      it("a drill", () =>
        holds(
          anyDrill,
          (drill) => catalog.saveDrill(drill),
          async (drill) => withId(await catalog.drills(drill.runbook), drill),
        ));
      it("a pin", () =>
        holds(
          anyPin.map((pin): Pin => ({ ...pin, removedAt: null, until: null })),
          (pin) => catalog.savePin(pin),
          async (pin) => withId(await catalog.pins(pin.createdAt), pin),
        ));
      it("a delivery", () =>
        holds(
          anyDelivery,
          (delivery) => catalog.saveDelivery(delivery),
          async (delivery) => withId(await catalog.deliveries({ status: [delivery.status] }), delivery),
        ));
      it("a job request", () =>
        holds(
          anyJobRequest,
          (request) => catalog.saveJobRequest(request),
          async (request) =>
            withId(await catalog.jobRequests({ status: [request.status], dueBy: request.dueAt }), request),
        ));
      it("an audit entry, and its chain holds", async () => {
        await holds(
          anyAuditEntry,
          (entry) => catalog.appendAudit(entry),
          async () =>
            (await catalog.audit(1)).map(({ sequence: _, previousHash: _p, hash: _h, ...entry }) => entry),
        );
        expect(await catalog.checkAudit()).toMatchObject({ brokenAt: null });
      });
    });

    it("answers only the pins that hold at a time", async () => {
      const pin = (id: string, change: Partial<Pin>): Pin => ({
        id,
        backupId: "b",
        reason: "audit",
        until: null,
        createdAt: "2026-11-20T02:00:00.000Z",
        createdBy: "ops",
        removedAt: null,
        removedBy: null,
        ...change,
      });
      await catalog.savePin(pin("held-1", {}));
      await catalog.savePin(pin("held-2", { until: "2026-12-01T00:00:00.001Z" }));
      await catalog.savePin(pin("held-3", { until: "2026-12-01T00:00:00.000Z" }));
      await catalog.savePin(pin("held-4", { removedAt: "2026-11-21T00:00:00.000Z", removedBy: "ops" }));
      const held = (await catalog.pins("2026-12-01T00:00:00Z")).map(({ id }) => id);
      expect(held.filter((id) => id.startsWith("held-"))).toEqual(["held-2", "held-1"]);
      const all = (await catalog.pins(null)).map(({ id }) => id).filter((id) => id.startsWith("held-"));
      expect(all).toEqual(["held-4", "held-3", "held-2", "held-1"]);
    });

    it("gives a job request to exactly one of several who want it", async () => {
      const request: JobRequest = {
        id: "claimed-1",
        job: "backup-full",
        args: ["backup", "full"],
        dueAt: "2026-11-20T02:00:00.000Z",
        status: "waiting",
        createdAt: "2026-11-20T01:00:00.000Z",
        createdBy: "ops",
        claimedAt: null,
        claimedBy: null,
        finishedAt: null,
        exitCode: null,
        error: null,
        signature: null,
      };
      await catalog.saveJobRequest(request);
      const at = "2026-11-20T02:00:01.000Z";
      const claims = await Promise.all(
        ["a", "b", "c", "d"].map((who) => catalog.claimJobRequest("claimed-1", who, at)),
      );
      expect(claims.filter(Boolean)).toHaveLength(1);
      const [claimed] = (await catalog.jobRequests({ status: ["claimed"] })).filter(
        ({ id }) => id === "claimed-1",
      );
      expect(claimed?.claimedBy).toBe("abcd"[claims.indexOf(true)]);
      expect(await catalog.claimJobRequest("nobody", "a", at)).toBe(false);
    });

    it("replaces what no database can hold, the same way everywhere", async () => {
      await catalog.saveRun({
        id: "run-1",
        job: "a\0b\ud800c",
        status: "failed",
        startedAt: "2026-11-20T02:00:00+01:00",
        finishedAt: null,
        host: "h",
        pid: 1,
        exitCode: null,
        error: null,
        metadata: { kept: "a\0b" },
      });
      expect(await catalog.runs({ job: "a\0b\ud800c" })).toMatchObject([
        { job: "a\ufffdb\ufffdc", startedAt: "2026-11-20T01:00:00.000Z", metadata: { kept: "a\0b" } },
      ]);
    });

    it("says which time is none", async () => {
      const saving = catalog.saveBackups([backupNumber(1, { createdAt: "yesterday" })]);
      await expect(saving).rejects.toMatchObject({ code: "bug", message: "not a time: yesterday" });
    });

    it("replaces the copies of a backup as a set", async () => {
      const backup = backupNumber(1);
      await catalog.saveBackups([backup]);
      const healed: Backup = { ...backup, copies: backup.copies.slice(1).reverse() };
      await catalog.saveBackups([healed]);
      expect(await catalog.backups({ reference: backup.id })).toEqual([healed]);
    });

    it("saves all of a call or nothing", async () => {
      const [copy] = backupNumber(2).copies;
      const twice = backupNumber(3, { copies: copy ? [copy, copy] : [] });
      await expect(catalog.saveBackups([backupNumber(2), twice])).rejects.toMatchObject({ code: "conflict" });
      expect(await catalog.backups({ reference: backupNumber(2).id })).toEqual([]);
    });

    it("takes thousands of tenants in one call, and the last of two with one id", async () => {
      const tenants = Array.from({ length: 4_000 }, (_, number) =>
        backupNumber(100_000 + number, { kind: "tenant", tenantId: `t${number}`, jobId: "all" }),
      );
      const again = backupNumber(100_000, { kind: "tenant", tenantId: "t0", note: "again" });
      await catalog.saveBackups([...tenants, again]);
      const found = await catalog.backups({
        since: backupNumber(100_000).createdAt,
        until: backupNumber(104_000).createdAt,
      });
      expect(found).toEqual([...tenants.slice(1).reverse(), again]);
    });

    it("does nothing when it is up to date", async () => {
      expect(await catalog.migrate()).toEqual([]);
    });
  });

  describe(`the queries of the catalog in ${name}`, () => catalogQueries(fresh));
  describe(`the plans of the catalog in ${name}`, () => catalogPlans(fresh));
  describe(`what storages hold by the catalog in ${name}`, () => catalogUsage(fresh));

  describe(`several processes with the catalog in ${name}`, () => {
    const WRITERS = [1, 2, 3, 4];
    const TURNS = 25;
    const SHARED = [999_998, 999_999];

    it("and several users in one of them create it at once, and write to it at once", async () => {
      const place = await fresh();
      const users = await Promise.all(WRITERS.map(() => open(place)));
      await Promise.all(
        users.map(async (user, who) => {
          for (let turn = 0; turn < TURNS; turn++) {
            await user.saveBackups([backupNumber(who * 1_000 + turn)]);
            await user.appendAudit({ ...auditEntry, id: `${who}-${turn}` });
          }
        }),
      );
      const [catalog] = users;
      expect(await catalog?.backups()).toHaveLength(WRITERS.length * TURNS);
      expect(await catalog?.checkAudit()).toMatchObject({ entries: WRITERS.length * TURNS, brokenAt: null });
      await Promise.all(users.map((user) => user.close()));
      await place.close();
    });

    it("may save the same backups in opposite orders", async () => {
      const place = await fresh();
      const [one, two] = [await open(place), await open(place)];
      const backups = Array.from({ length: 400 }, (_, number) => backupNumber(number));
      for (let turn = 0; turn < 5; turn++)
        await Promise.all([one.saveBackups(backups), two.saveBackups([...backups].reverse())]);
      expect(await one.backups()).toEqual([...backups].reverse());
      await Promise.all([one.close(), two.close()]);
      await place.close();
    });

    it("create it at once, and write to it at once, without losing anything", async () => {
      const place = await fresh();
      const start = `${Date.now() + 2_500}`;
      await Promise.all(WRITERS.map((who) => startProcess(place.url, "write", `${who}`, `${TURNS}`, start)));
      const catalog = await open(place);
      expect(await catalog.backups()).toHaveLength(WRITERS.length * TURNS + SHARED.length);
      expect(await catalog.checkAudit()).toMatchObject({ entries: WRITERS.length * TURNS, brokenAt: null });
      // the copies are those of the writer who came last, never a mixture
      for (const number of SHARED) {
        const [shared] = await catalog.backups({ reference: backupNumber(number).id });
        expect(shared?.copies.map((copy) => copy.path)).toEqual([shared?.note, shared?.note, shared?.note]);
      }
      await catalog.close();
      await place.close();
    });
  });

  describe(`a changed catalog in ${name}`, () => {
    it("of a newer jbackup is refused and left alone", async () => {
      const place = await fresh();
      await (await open(place)).close();
      await place.run(
        `insert into ${place.table("migrations")} values ('0999_later', '2030-01-01T00:00:00.000Z')`,
      );
      const before = await place.run(`select * from ${place.table("migrations")} order by name`);
      await expect(open(place)).rejects.toMatchObject({
        code: "version_mismatch",
        message: expect.stringMatching(
          /belongs to a newer jbackup: this one does not know its migration 0999_later$/,
        ),
        hint: "Install the newer jbackup on this host too; the catalog was not changed.",
      });
      expect(await place.run(`select * from ${place.table("migrations")} order by name`)).toEqual(before);
      await place.close();
    });

    const tamper = async (statement: (table: string) => string): Promise<unknown> => {
      const place = await fresh();
      const catalog = await open(place);
      for (const number of [1, 2, 3, 4]) await catalog.appendAudit({ ...auditEntry, id: `e${number}` });
      const { head } = await catalog.checkAudit();
      await place.run(statement(place.table("audit")));
      const { head: after, ...check } = await catalog.checkAudit();
      await catalog.close();
      await place.close();
      return { ...check, isSameEnd: after === head };
    };

    it("shows which audit entry was edited", async () => {
      expect(await tamper((audit) => `update ${audit} set actor = 'z' where id = 'e2'`)).toEqual({
        entries: 4,
        brokenAt: "e2",
        isSameEnd: true,
      });
    });
    it("shows where an audit entry was removed", async () => {
      expect(await tamper((audit) => `delete from ${audit} where id = 'e2'`)).toEqual({
        entries: 3,
        brokenAt: "e3",
        isSameEnd: true,
      });
    });
    it("shows by another head that the end of the audit was cut off", async () => {
      expect(await tamper((audit) => `delete from ${audit} where id = 'e4'`)).toEqual({
        entries: 3,
        brokenAt: null,
        isSameEnd: false,
      });
    });

    it("answers the hashes of audit entries by their numbers, and the entries of one action", async () => {
      const place = await fresh();
      const catalog = await open(place);
      for (const number of [1, 2, 3])
        await catalog.appendAudit({
          ...auditEntry,
          id: `e${number}`,
          action: number === 2 ? "rare" : "often",
        });
      const [third, second, first] = await catalog.audit();
      const many = Array.from({ length: 1_200 }, (_, at) => at + 2);
      expect(await catalog.auditHashes([1, ...many])).toEqual(
        new Map([first, second, third].map((entry) => [entry?.sequence, entry?.hash])),
      );
      expect(await catalog.auditHashes([])).toEqual(new Map());
      expect(await catalog.audit(5, "rare")).toEqual([second]);
      expect((await catalog.audit(1, "often")).map(({ id }) => id)).toEqual(["e3"]);
      await catalog.close();
      await place.close();
    });

    it("does not take another audit entry under a known id", async () => {
      const place = await fresh();
      const catalog = await open(place);
      const entry = {
        id: "e1",
        at: backupNumber(1).createdAt,
        actor: "a",
        action: "b",
        subject: "c",
        detail: {},
      };
      await catalog.appendAudit(entry);
      await expect(catalog.appendAudit({ ...entry, actor: "z" })).rejects.toMatchObject({
        code: "conflict",
        message: "the audit has another entry with the id e1",
      });
      const [stored] = await catalog.audit();
      expect(stored).toMatchObject({ ...entry, sequence: 1, previousHash: "0".repeat(64) });
      expect(stored?.hash).toBe((await catalog.checkAudit()).head);
      await catalog.close();
      await place.close();
    });

    it("with damaged JSON says which record", async () => {
      const place = await fresh();
      const catalog = await open(place);
      await catalog.saveBackups([backupNumber(1)]);
      await place.run(`update ${place.table("backups")} set metadata = '{'`);
      await expect(catalog.backups()).rejects.toMatchObject({
        code: "catalog_unavailable",
        message: `the catalog's record ${backupNumber(1).id} is damaged: its metadata is not JSON`,
      });
      await catalog.close();
      await place.close();
    });
  });
}
