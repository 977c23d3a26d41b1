import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { JBackupError } from "../../src/domain/errors.js";
import { FileThreads, fingerprintsOf, newFingerprintKey } from "../../src/format/format.js";
import { CONTEXT, DATA_KEY, sampleBytes, seal, sourceOf } from "./support.js";

let folder: string;
let threads: FileThreads;
const raw = sampleBytes(50_000);
const sealed = await seal(raw, { frameBytes: 4096 });
const path = (name: string): string => join(folder, name);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "jbackup-threads-"));
});
afterAll(() => rm(folder, { recursive: true }));
beforeEach(() => {
  threads = new FileThreads();
});
afterEach(() => threads.close());

/** Offset in the content, length, number of the file, offset in it. */
const task = (runs: number[][], paths: string[]) => ({
  dataKey: DATA_KEY,
  context: CONTEXT,
  runs: Float64Array.from(runs.flat()),
  paths: new Map(paths.map((name, nth) => [nth, path(name)])),
});

describe("unpacking", () => {
  const runs = [
    [100, 9_000, 0, 0],
    [9_100, 10, 1, 5],
    [20_000, 30_000, 0, 9_000],
  ];

  it.each(["whole", "ranges"])(
    "writes the runs of an object, read as %s, to where they belong",
    async (how) => {
      const [large, small] = [`${how}-large`, `${how}-small`];
      await writeFile(path(small), "hello, this was there before");
      const source = sourceOf(sealed);
      if (how === "whole") await threads.unpackWhole(source, task(runs, [large, small]));
      else {
        const ranges = [
          { start: 100, end: 9_110 },
          { start: 20_000, end: 50_000 },
        ];
        await threads.unpackRanges(source, ranges, task(runs, [large, small]));
        // its beginning and its end are all of so small an object: nothing is asked for again
        expect(source.reads).toEqual([
          [0, 8212],
          [8212, sealed.length],
        ]);
      }
      const expected = Buffer.concat([raw.subarray(100, 9_100), raw.subarray(20_000, 50_000)]);
      expect((await readFile(path(large))).equals(expected)).toBe(true);
      const edited = Buffer.from("hello, this was there before");
      raw.copy(edited, 5, 9_100, 9_110);
      expect((await readFile(path(small))).equals(edited)).toBe(true);
    },
  );

  it("does many at one time, and every one is right", async () => {
    const all = Array.from({ length: 20 }, (_, nth) => nth);
    await Promise.all(
      all.map((nth) => threads.unpackWhole(sourceOf(sealed), task([[nth, 40_000, 0, 0]], [`many-${nth}`]))),
    );
    for (const nth of all)
      expect((await readFile(path(`many-${nth}`))).equals(raw.subarray(nth, nth + 40_000))).toBe(true);
  });

  it("refuses a damaged object with the words of the format, and goes on with the next", async () => {
    const damaged = Buffer.from(sealed);
    damaged[20_000] = (damaged[20_000] as number) ^ 1;
    const wish = task([[0, 50_000, 0, 0]], ["after-damage"]);
    const error = await threads.unpackWhole(sourceOf(damaged), wish).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(JBackupError);
    expect(error).toMatchObject({ code: "object_corrupt", exitCode: 4, details: { object: CONTEXT.name } });
    expect(error.message).toMatch(/is damaged at frame \d+$/);
    await threads.unpackWhole(sourceOf(sealed), wish);
    expect((await readFile(path("after-damage"))).equals(raw)).toBe(true);
  });

  it("refuses an object that holds less than is asked of it", async () => {
    const error = await threads
      .unpackWhole(sourceOf(sealed), task([[49_990, 20, 0, 0]], ["short"]))
      .catch((thrown) => thrown);
    expect(error).toMatchObject({ code: "object_truncated" });
    expect(error.message).toContain("holds 50000 bytes, and 50010 are asked for");
  });

  it.each(["whole", "ranges"])("passes on why an object could not be read as %s", async (how) => {
    const why = new JBackupError("storage_unavailable", "storage r2 is away", { hint: "wait" });
    const source = {
      bytes: sealed.length,
      read: () => {
        throw why;
      },
    };
    const wish = task([[0, 10, 0, 0]], ["unread"]);
    const done =
      how === "whole"
        ? threads.unpackWhole(source, wish)
        : threads.unpackRanges(source, [{ start: 0, end: 10 }], wish);
    expect(await done.catch((thrown) => thrown)).toBe(why);
  });

  it("tells the error of the disk that is written to as what it is", async () => {
    const wish = task([[0, 10, 0, 0]], ["no-such-folder/file"]);
    const error = await threads.unpackWhole(sourceOf(sealed), wish).catch((thrown) => thrown);
    expect(error).not.toBeInstanceOf(JBackupError);
    expect(error).toMatchObject({ code: "ENOENT", syscall: "open", path: path("no-such-folder/file") });
  });
});

describe("comparing", () => {
  const key = newFingerprintKey();
  const compare = (name: string, should: Buffer) =>
    threads.compare({
      path: path(name),
      size: should.length,
      block: 8192,
      tags: fingerprintsOf(key, should, 8192),
      key,
    });

  it("says what differs, neighbours as one, whether changed, missing, or too much", async () => {
    const size = 2 ** 20 + 3 * 8192 + 100;
    const should = sampleBytes(size);
    await writeFile(path("same"), should);
    expect(await compare("same", should)).toEqual({ right: size, parts: [] });

    const changed = Buffer.from(should);
    for (const at of [8192, 2 * 8192 + 5, 2 ** 20 + 8192]) changed[at] = (changed[at] as number) ^ 1;
    await writeFile(path("changed"), changed);
    expect(await compare("changed", should)).toEqual({
      right: size - 3 * 8192,
      parts: [
        [8192, 3 * 8192],
        [2 ** 20 + 8192, 2 ** 20 + 2 * 8192],
      ],
    });

    await writeFile(path("cut"), should.subarray(0, 8192 + 10));
    expect(await compare("cut", should)).toEqual({ right: 8192, parts: [[8192, size]] });
    await writeFile(path("longer"), Buffer.concat([should, Buffer.from("more")]));
    expect(await compare("longer", should)).toEqual({ right: size, parts: [] });
  });

  it("takes an empty file for what it is", async () => {
    await writeFile(path("empty"), "");
    expect(await compare("empty", Buffer.alloc(0))).toEqual({ right: 0, parts: [] });
  });
});
