import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type AuditGap,
  auditHeadIn,
  gapIn,
  judgeWitnesses,
  type KnownChain,
  newestLost,
  sampleOf,
  type Witness,
} from "../../src/domain/auditHead.js";

/** A hash that tells which entry of which catalog it is of. */
const hash = (catalog: string, number: number): string =>
  `${catalog}${number.toString(16)}`.padStart(64, "0");

const chainOf = (catalog: string, entries: number): Map<number, string> =>
  new Map(Array.from({ length: entries }, (_, at) => [at + 1, hash(catalog, at + 1)]));

const witness = (nth: number, entries: number, catalog = "a", host = "db1"): Witness => ({
  backupId: `backup-${String(nth).padStart(3, "0")}`,
  label: `full-${nth}`,
  createdBy: `ops@${host}`,
  jobId: `job-${nth}`,
  head: {
    entries,
    hash: entries === 0 ? null : hash(catalog, entries),
    chain: entries === 0 ? null : hash(catalog, 1),
  },
});

const gap = (until: Witness): AuditGap => ({
  rebuiltAt: "2026-11-20T02:00:00.000Z",
  rebuiltBy: "ops@db1",
  backupId: until.backupId,
  label: until.label,
  entries: until.head.entries,
  chains: until.head.chain === null ? [] : [until.head.chain],
});

const known = (hashes: Map<number, string>, more: Partial<KnownChain> = {}): KnownChain => ({
  hashes,
  gaps: [],
  isShared: false,
  catalog: "catalog-1",
  runs: new Set(),
  ...more,
});

const labels = (witnesses: Witness[]): string[] => witnesses.map(({ label }) => label);

describe("the head of the audit in a manifest", () => {
  const head = { entries: 3, hash: hash("a", 3), chain: hash("a", 1) };
  test("is read, and one of an empty audit too", () => {
    expect(auditHeadIn({ auditHead: head, more: 1 })).toEqual(head);
    const empty = { entries: 0, hash: null, chain: null };
    expect(auditHeadIn({ auditHead: empty })).toEqual(empty);
  });
  test.each([
    [{}],
    [{ auditHead: null }],
    [{ auditHead: "3" }],
    [{ auditHead: { ...head, entries: -1 } }],
    [{ auditHead: { ...head, entries: 1.5 } }],
    [{ auditHead: { ...head, hash: "abc" } }],
    [{ auditHead: { entries: 3, hash: hash("a", 3) } }],
  ])("%j says nothing", (metadata) => {
    expect(auditHeadIn(metadata)).toBeNull();
  });
});

describe("the chain held against its witnesses", () => {
  test("whatever number of entries is cut off, exactly the backups that knew of them say so", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 60 }),
        fc.array(fc.integer({ min: 0, max: 60 }), { maxLength: 12 }),
        (left, counts) => {
          const witnesses = counts.toSorted((a, b) => a - b).map((entries, at) => witness(at, entries));
          const verdict = judgeWitnesses(witnesses, known(chainOf("a", left)));
          const gone = witnesses.filter(({ head }) => head.entries > left).reverse();
          expect(verdict.contradicting).toEqual(gone);
          const here = witnesses.filter(({ head }) => head.entries > 0 && head.entries <= left);
          expect(verdict.confirmed).toEqual(here.at(-1) ?? null);
        },
      ),
    );
  });

  test("entries that grew over a cut do not hide it while an older backup remembers", () => {
    const regrown = new Map([...chainOf("a", 2), [3, hash("b", 3)], [4, hash("b", 4)]]);
    const old = witness(1, 4);
    const young: Witness = {
      ...witness(2, 4),
      head: { entries: 4, hash: hash("b", 4), chain: hash("a", 1) },
    };
    const verdict = judgeWitnesses([old, young], known(regrown));
    expect([verdict.confirmed, labels(verdict.contradicting)]).toEqual([young, ["full-1"]]);
  });

  test("a rebuild explains the backups up to the one that it names, and no later one", () => {
    const [before, last] = [witness(1, 9), witness(2, 12)];
    const after = { ...witness(4, 40, "c"), head: { ...witness(4, 40, "c").head, catalog: "catalog-1" } };
    const verdict = judgeWitnesses([before, last, after], known(chainOf("b", 3), { gaps: [gap(last)] }));
    expect(labels(verdict.explained)).toEqual(["full-2", "full-1"]);
    expect(labels(verdict.contradicting)).toEqual(["full-4"]);
  });

  test("what another host made with a catalog of its own is not held against this one", () => {
    const other = witness(3, 7, "b", "db2");
    expect(judgeWitnesses([other], known(chainOf("a", 2))).elsewhere).toEqual([other]);
    // the same chain, whatever the host is called now
    expect(judgeWitnesses([witness(3, 7, "a", "db2")], known(chainOf("a", 2))).contradicting).toHaveLength(1);
    // one catalog for all hosts
    expect(judgeWitnesses([other], known(chainOf("a", 2), { isShared: true })).contradicting).toEqual([
      other,
    ]);
  });

  test("another home on this host is another catalog: its id says so, and without one what was run here", () => {
    const saysId = (one: Witness, catalog: string): Witness => ({ ...one, head: { ...one.head, catalog } });
    const other = saysId(witness(3, 7, "b"), "catalog-2");
    expect(judgeWitnesses([other], known(chainOf("a", 9))).elsewhere).toEqual([other]);
    // this very catalog, whose chain is another now
    const own = saysId(witness(3, 7, "b"), "catalog-1");
    expect(judgeWitnesses([own], known(chainOf("a", 9))).contradicting).toEqual([own]);
    const silent = witness(3, 7, "b");
    expect(judgeWitnesses([silent], known(chainOf("a", 9))).elsewhere).toEqual([silent]);
    const runs = new Set([silent.jobId]);
    for (const one of [silent, other])
      expect(judgeWitnesses([one], known(chainOf("a", 9), { runs })).contradicting).toEqual([one]);
  });
});

describe("a rebuild", () => {
  test("names the newest backup that knew more, unless an earlier rebuild has named it", () => {
    const witnesses = [witness(1, 5), witness(2, 8), witness(3, 2, "b")];
    const lost = { backupId: "backup-002", label: "full-2", entries: 8, chains: [hash("a", 1)] };
    const ran = new Set(["job-1", "job-2"]);
    expect(newestLost(witnesses, known(chainOf("b", 3), { runs: ran }))).toEqual(lost);
    const gaps = [gap(witness(2, 8))];
    expect(newestLost(witnesses, known(chainOf("b", 3), { runs: ran, gaps }))).toBeNull();
    // those of another home are not lost here
    expect(newestLost(witnesses, known(chainOf("b", 3)))).toBeNull();
    expect(newestLost([witness(1, 5)], known(chainOf("a", 5)))).toBeNull();
  });

  test("explains what knew of the chain that was lost, and not what others know", () => {
    const gaps = [gap(witness(5, 8))];
    const runs = new Set(["job-3"]);
    const verdict = judgeWitnesses(
      [witness(2, 4), witness(3, 9, "d")],
      known(chainOf("b", 3), { gaps, runs }),
    );
    expect([labels(verdict.explained), labels(verdict.contradicting)]).toEqual([["full-2"], ["full-3"]]);
  });

  test("is read back from its entry", () => {
    const entry = { at: "2026-11-20T02:00:00.000Z", actor: "ops@db1" };
    const lostAudit = { backupId: "backup-002", label: "full-2", entries: 8, chains: [hash("a", 1)] };
    expect(gapIn({ ...entry, detail: { lostAudit } })).toEqual(gap(witness(2, 8)));
    const { chains: _, ...earlier } = lostAudit;
    expect(gapIn({ ...entry, detail: { lostAudit: earlier } })).toEqual({
      ...gap(witness(2, 8)),
      chains: null,
    });
    for (const detail of [{}, { lostAudit: null }, { lostAudit: { backupId: 1 } }])
      expect(gapIn({ ...entry, detail })).toBeNull();
  });
});

test("of many backups the newest are asked, and older ones at distances that double", () => {
  const many = Array.from({ length: 100 }, (_, at) => at);
  expect(sampleOf(many)).toEqual([0, 1, 2, 3, 4, 10, 20, 40, 80, 99]);
  expect(sampleOf(many.slice(0, 3))).toEqual([0, 1, 2]);
  expect(sampleOf([])).toEqual([]);
});
