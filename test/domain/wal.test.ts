import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  epochKey,
  historyName,
  isHistoryName,
  isSegmentName,
  lsnText,
  parseHistory,
  parseLsn,
  parseSegmentName,
  parseWalFile,
  parseWalKey,
  pieceName,
  segmentAt,
  segmentName,
  segmentStart,
  walKey,
} from "../../src/domain/wal.js";

const MIB = 2 ** 20;
const lsns = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn });
const segmentSizes = fc.integer({ min: 0, max: 10 }).map((power) => MIB * 2 ** power);
const timelines = fc.integer({ min: 1, max: 0xffff_ffff });

describe("positions in the WAL", () => {
  test.each([
    ["0/0", 0n],
    ["0/16B3740", 0x16b_3740n],
    ["3/A1B2C3D0", 0x3_a1b2_c3d0n],
    ["FFFFFFFF/FFFFFFFF", 0xffff_ffff_ffff_ffffn],
  ])("%s is read and written", (text, lsn) => {
    expect(parseLsn(text)).toBe(lsn);
    expect(lsnText(lsn)).toBe(text);
  });

  test.each(["", "0", "0/", "/0", "0/123456789", "G/0", "0x1/0", "-1/0", "0/0 ", "1/2/3"])(
    "%j is no position",
    (text) => expect(() => parseLsn(text)).toThrow(`"${text}" is no LSN`),
  );

  test("any position is read back, in either case", () => {
    fc.assert(
      fc.property(lsns, (lsn) => {
        expect(parseLsn(lsnText(lsn))).toBe(lsn);
        expect(parseLsn(lsnText(lsn).toLowerCase())).toBe(lsn);
      }),
    );
  });
});

describe("names of segments", () => {
  test.each([
    // as pg_walfile_name answers
    ["000000010000000000000001", 16 * MIB, 1, 1n],
    ["0000000100000000000000FF", 16 * MIB, 1, 255n],
    ["000000010000000100000000", 16 * MIB, 1, 256n],
    ["0000000A0000000200000FFF", MIB, 10, 3n * 4096n - 1n],
    ["00000010000000AB00000003", 1024 * MIB, 16, 0xabn * 4n + 3n],
  ])("%s of %d bytes is segment %d/%d", (name, segmentBytes, timeline, number) => {
    expect(segmentName({ timeline, number }, segmentBytes)).toBe(name);
    expect(parseSegmentName(name, segmentBytes)).toEqual({ timeline, number });
  });

  test("a name that no server with such segments would make is refused", () => {
    expect(() => parseSegmentName("000000010000000000000100", 16 * MIB)).toThrow(
      '"000000010000000000000100" cannot be a segment of 16777216 bytes',
    );
    expect(() => parseSegmentName("00000001000000000000000g", 16 * MIB)).toThrow(
      "is no name of a WAL segment",
    );
    expect(isSegmentName("00000001000000000000000a")).toBe(false);
  });

  test("every position lies in the segment that its name says, whatever the size", () => {
    fc.assert(
      fc.property(lsns, segmentSizes, timelines, (lsn, segmentBytes, timeline) => {
        const number = segmentAt(lsn, segmentBytes);
        const start = segmentStart(number, segmentBytes);
        expect(start <= lsn && lsn < start + BigInt(segmentBytes)).toBe(true);
        expect(parseSegmentName(segmentName({ timeline, number }, segmentBytes), segmentBytes)).toEqual({
          timeline,
          number,
        });
      }),
    );
  });

  test("names sort as their segments do", () => {
    fc.assert(
      fc.property(lsns, lsns, segmentSizes, timelines, (one, other, segmentBytes, timeline) => {
        const [a, b] = [segmentAt(one, segmentBytes), segmentAt(other, segmentBytes)];
        const named = (number: bigint): string => segmentName({ timeline, number }, segmentBytes);
        expect(named(a) < named(b)).toBe(a < b);
      }),
    );
  });
});

describe("histories of timelines", () => {
  test("give the timelines that were left, and where; timelines are decimal inside and hexadecimal in the name", () => {
    const text = [
      "1\t0/A000198\tno recovery target specified",
      "",
      "# a note of an administrator",
      "  9\t3/5C000000\tbefore 2026-11-20 12:00:00+00",
      '10 3/6000028 at restore point "before the upgrade"',
    ].join("\n");
    expect(parseHistory(text)).toEqual([
      { timeline: 1, at: 0xa00_0198n },
      { timeline: 9, at: 0x3_5c00_0000n },
      { timeline: 10, at: 0x3_0600_0028n },
    ]);
    expect(historyName(11)).toBe("0000000B.history");
    expect(isHistoryName("0000000B.history")).toBe(true);
    expect(isHistoryName("0000000b.history")).toBe(false);
  });
});

describe("keys of WAL objects", () => {
  const SEGMENT = "0000000A0000000200000003";
  const FOLDER = `wal/7301/0000000A/0000000A00000002`;

  test.each([
    [SEGMENT, `${FOLDER}/${SEGMENT}.jbk`],
    [`${SEGMENT}.partial`, `${FOLDER}/${SEGMENT}.partial.jbk`],
    [pieceName(SEGMENT, 0, 8192), `${FOLDER}/${SEGMENT}.00000000-00002000.jbk`],
    ["0000000B.history", "wal/7301/0000000B/0000000B.history.jbk"],
  ])("%s is stored as %s", (name, key) => {
    expect(walKey("7301", name)).toBe(key);
    expect(parseWalKey(key)).toEqual({ systemId: "7301", file: parseWalFile(name) });
  });

  test.each([
    epochKey("7301", "0193a000-0000-7000-8000-000000000001"),
    `${FOLDER}/${SEGMENT}`,
    `${FOLDER}/${SEGMENT}.tmp.jbk`,
    // in folders of other timelines or logs
    `wal/7301/0000000B/0000000A00000002/${SEGMENT}.jbk`,
    `wal/7301/0000000A/0000000A00000003/${SEGMENT}.jbk`,
    "wal/7301/0000000A/0000000B.history.jbk",
    `wal/x/0000000A/0000000A00000002/${SEGMENT}.jbk`,
    `backups/${FOLDER}/${SEGMENT}.jbk`,
  ])("%s is no WAL file", (key) => expect(parseWalKey(key)).toBeNull());

  test("any file's key is read back as that file", () => {
    const offsets = fc.integer({ min: 0, max: 1024 * MIB });
    fc.assert(
      fc.property(timelines, lsns, offsets, offsets, fc.nat(3), (timeline, lsn, a, b, kind) => {
        const segment = segmentName({ timeline, number: segmentAt(lsn, 16 * MIB) }, 16 * MIB);
        const [from, to] = [Math.min(a, b), Math.max(a, b)];
        const name = [segment, `${segment}.partial`, pieceName(segment, from, to), historyName(timeline)][
          kind
        ] as string;
        const file = parseWalFile(name);
        expect(file?.name).toBe(name);
        if (file?.kind === "piece") expect(file).toMatchObject({ segment, from, to });
        expect(parseWalKey(walKey("7301", name))).toEqual({ systemId: "7301", file });
      }),
    );
  });
});
