import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  addExtent,
  blockBytesOf,
  blocksIn,
  type Extent,
  extentsBetween,
  type FileRecord,
} from "../../src/domain/fileMap.js";
import {
  encodeFileRecord,
  FINGERPRINT_BYTES,
  fingerprintsOf,
  mapHeader,
  newFingerprintKey,
  readMap,
} from "../../src/format/format.js";

const pieces = async function* (bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
};

async function all(stream: AsyncIterable<Uint8Array>) {
  const found = [];
  for await (const entry of readMap(stream)) found.push(entry);
  return found;
}

const extent: fc.Arbitrary<Extent> = fc.tuple(
  fc.nat(5),
  fc.integer({ min: 1, max: 999_999 }),
  fc.nat(2 ** 30),
  fc.integer({ min: 1, max: 2 ** 21 }),
);

const file = fc
  .record({ name: fc.stringMatching(/^[a-z0-9_]{1,12}$/), at: fc.array(extent, { maxLength: 6 }) })
  .map(({ name, at }): FileRecord => {
    const size = at.reduce((sum, [, , , bytes]) => sum + bytes, 0);
    return { kind: "file", path: `base/1/${name}`, mode: 0o600, size, block: blockBytesOf(size), at };
  });

describe("the map of files", () => {
  test("reads back what was written, however the stream is cut", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(file, { maxLength: 8 }),
        fc.integer({ min: 1, max: 5000 }),
        async (files, cut) => {
          const entries = files.map((record) => ({
            record,
            tags: Buffer.alloc(
              record.kind === "file" ? blocksIn(record.size, record.block) * FINGERPRINT_BYTES : 0,
              record.path,
            ),
          }));
          const bytes = Buffer.concat([
            mapHeader(),
            ...entries.map(({ record, tags }) => encodeFileRecord(record, tags)),
          ]);
          expect(await all(pieces(bytes, cut))).toMatchObject(entries);
        },
      ),
      { numRuns: 30 },
    );
  });

  test.each([
    ["something else", Buffer.from("hello there"), "does not begin like one"],
    ["a cut head", Buffer.concat([mapHeader(), Buffer.from([0, 0])]), "is cut off"],
    [
      "a path that leaves the folder",
      Buffer.concat([
        mapHeader(),
        encodeFileRecord({ kind: "dir", path: "../etc", mode: 0o700 }, Buffer.alloc(0)),
      ]),
      "no usable path",
    ],
    [
      "extents that do not cover the file",
      Buffer.concat([
        mapHeader(),
        encodeFileRecord(
          { kind: "file", path: "a", mode: 0o600, size: 10, block: 8192, at: [[0, 1, 0, 9]] },
          Buffer.alloc(16),
        ),
      ]),
      "a is not well described",
    ],
  ])("refuses %s", async (_what, bytes, why) => {
    await expect(all(pieces(bytes, 100))).rejects.toThrow(why);
  });
});

describe("fingerprints", () => {
  test("tell blocks apart, alone and under their key only", () => {
    const key = newFingerprintKey();
    const bytes = Buffer.alloc(20_000, "abc");
    const tags = fingerprintsOf(key, bytes, 8192);
    expect(tags.length).toBe(3 * FINGERPRINT_BYTES);
    const changed = Buffer.from(bytes);
    changed[9000] = 0;
    const other = fingerprintsOf(key, changed, 8192);
    const differs = [0, 1, 2].map(
      (block) =>
        !tags.subarray(block * 16, block * 16 + 16).equals(other.subarray(block * 16, block * 16 + 16)),
    );
    expect(differs).toEqual([false, true, false]);
    expect(fingerprintsOf(newFingerprintKey(), bytes, 8192).equals(tags)).toBe(false);
  });
});

describe("extents", () => {
  test("a run that continues the last one becomes part of it", () => {
    const extents: Extent[] = [];
    addExtent(extents, [0, 1, 0, 100]);
    addExtent(extents, [0, 1, 100, 50]);
    addExtent(extents, [0, 2, 0, 10]);
    expect(extents).toEqual([
      [0, 1, 0, 150],
      [0, 2, 0, 10],
    ]);
  });

  test("any part of a file is found, whole and in order", () => {
    fc.assert(
      fc.property(fc.array(extent, { minLength: 1, maxLength: 6 }), fc.nat(), fc.nat(), (extents, a, b) => {
        const size = extents.reduce((sum, [, , , bytes]) => sum + bytes, 0);
        const start = Math.min(a, b) % size;
        const end = start + (Math.max(a, b) % (size - start + 1));
        const found = extentsBetween(extents, start, end);
        expect(found.reduce((sum, [, , , bytes]) => sum + bytes, 0)).toBe(end - start);
        expect(extentsBetween(extents, 0, size)).toEqual(extents);
      }),
    );
  });
});
