import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Contents, Entry } from "../../src/domain/manifest.js";
import {
  type Archive,
  type ArchiveOptions,
  contentsContext,
  createArchive,
  openContents,
  openEntries,
  openEntry,
  sealObject,
} from "../../src/format/format.js";
import { BACKUP_ID, collect, DATA_KEY, errorOf, inChunks, sampleBytes, sourceOf } from "./support.js";

const BACKUP = { site: "shop-prod", backupId: BACKUP_ID, tenantId: null };

function archiveInMemory(options: Partial<ArchiveOptions> = {}) {
  const stored = new Map<string, Buffer>();
  const archive = createArchive({
    ...BACKUP,
    dataKey: DATA_KEY,
    compression: { codec: "zstd", level: 3 },
    frameBytes: 512,
    packBytes: 4096,
    store: async ({ name, chunks }) => {
      stored.set(name, Buffer.concat(chunks));
    },
    ...options,
  });
  const source = async (name: string) => sourceOf(stored.get(name) as Buffer);
  const read = (entry: Entry): Promise<Buffer> =>
    collect(openEntry(entry, { ...BACKUP, dataKey: DATA_KEY, source }));
  return { archive, stored, source, read };
}

const add = (archive: Archive, name: string, bytes: Uint8Array): Promise<Entry> =>
  archive.addEntry(name, inChunks(bytes, 333));

describe("an archive", () => {
  it("gives back every entry, for any sizes of entries, frames and packs", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(6000), { maxLength: 8 }),
        fc.integer({ min: 50, max: 1500 }),
        fc.integer({ min: 1, max: 8000 }),
        async (sizes, frameBytes, packBytes) => {
          const { archive, stored, source, read } = archiveInMemory({ frameBytes, packBytes });
          const inputs = sizes.map((size, at) => sampleBytes(6000).subarray(at, at + size));
          for (const [at, bytes] of inputs.entries()) await add(archive, `file-${at}`, bytes);
          const finished = await archive.finish({ tables: 3 });
          const contents = await openContents(await source("contents.jbk"), DATA_KEY, BACKUP);
          expect(contents).toEqual({ format: 1, entries: finished.entries, detail: { tables: 3 } });
          for (const [at, bytes] of inputs.entries())
            expect((await read(contents.entries[at] as Entry)).equals(bytes)).toBe(true);
          expect(finished.rawBytes).toBe(inputs.reduce((sum, bytes) => sum + bytes.length, 0));
          expect(finished.objects.map(({ name }) => name)).toEqual([...stored.keys()].toSorted(byPlace));
          for (const { name, bytes } of finished.objects) expect(stored.get(name)).toHaveLength(bytes);
        },
      ),
      { numRuns: 40 },
    );
  });

  const byPlace = (a: string, b: string): number =>
    Number(a === "contents.jbk") - Number(b === "contents.jbk") || (a < b ? -1 : 1);

  it("lays small entries side by side in one pack and a large one over several", async () => {
    const { archive } = archiveInMemory({ compression: { codec: "none", level: 0 } });
    expect((await add(archive, "a", Buffer.alloc(10))).segments).toEqual([
      { object: "data/000001.jbk", offset: 0, bytes: 10 },
    ]);
    expect((await add(archive, "b", Buffer.alloc(20))).segments).toEqual([
      { object: "data/000001.jbk", offset: 10, bytes: 20 },
    ]);
    const large = await add(archive, "c", Buffer.alloc(9000));
    expect(large.segments.map(({ object }) => object)).toEqual([
      "data/000001.jbk",
      "data/000002.jbk",
      "data/000003.jbk",
    ]);
    expect((await add(archive, "empty", Buffer.alloc(0))).segments).toEqual([]);
  });

  it("lays the same input the same way, however fast the parts come", async () => {
    const places: unknown[] = [];
    for (const size of [7, 333, 20_000]) {
      const { archive } = archiveInMemory();
      places.push((await archive.addEntry("x", inChunks(sampleBytes(40_000), size))).segments);
      await archive.finish();
    }
    expect(places[1]).toEqual(places[0]);
    expect(places[2]).toEqual(places[0]);
  });

  it("without entries is a contents object alone", async () => {
    const { archive } = archiveInMemory();
    archive.addContents({ a: 1, b: 1 });
    const { objects, rawBytes } = await archive.finish({ b: 2 });
    expect(objects.map(({ name }) => name)).toEqual(["contents.jbk"]);
    expect(rawBytes).toBe(0);
  });

  it("keeps entries apart that are added at the same time", async () => {
    const { archive, read } = archiveInMemory();
    const inputs = [1, 2, 3].map((n) => sampleBytes(9000).subarray(n * 1000));
    const entries = await Promise.all(inputs.map((bytes, at) => add(archive, `e${at}`, bytes)));
    await archive.finish();
    for (const [at, entry] of entries.entries())
      expect((await read(entry)).equals(inputs[at] as Buffer)).toBe(true);
  });

  it("passes on the error of an input, and goes on", async () => {
    const { archive, read } = archiveInMemory();
    const broken = new Error("server closed the connection");
    const failing = (async function* () {
      yield sampleBytes(5000);
      throw broken;
    })();
    await expect(archive.addEntry("dump", failing)).rejects.toBe(broken);
    const again = await add(archive, "dump", sampleBytes(5000));
    const { entries } = await archive.finish();
    expect(entries).toHaveLength(1);
    expect((await read(again)).equals(sampleBytes(5000))).toBe(true);
  });

  it("fails with the error of the store, on the next entry or at the end", async () => {
    const full = new Error("no space left");
    const store = () => Promise.reject(full);
    const first = archiveInMemory({ store });
    await expect(add(first.archive, "x", sampleBytes(100_000))).rejects.toBe(full);
    const second = archiveInMemory({ store });
    await add(second.archive, "x", sampleBytes(100));
    await expect(second.archive.finish()).rejects.toBe(full);
  });

  it("holds at most two finished packs while a store is slow, and stores the contents last", async () => {
    let waiting = 0;
    let most = 0;
    const order: string[] = [];
    const store = async ({ name }: { name: string }) => {
      most = Math.max(most, ++waiting);
      await new Promise((resolve) => setTimeout(resolve, 5));
      waiting--;
      order.push(name);
    };
    const { archive } = archiveInMemory({ store, compression: { codec: "none", level: 0 } });
    await add(archive, "x", sampleBytes(60_000));
    await archive.finish();
    expect(most).toBe(2);
    expect(order.length).toBeGreaterThan(10);
    expect(order.at(-1)).toBe("contents.jbk");
  });

  it.each([
    "",
    "/etc/passwd",
    "../x",
    "a/../b",
    "a//b",
    "./a",
    "a/",
    "nul\0byte",
    "line\nbreak",
    "x".repeat(2000),
  ])("refuses the entry name %j", async (name) => {
    const error = await errorOf(add(archiveInMemory().archive, name, Buffer.from("x")));
    expect(error.message).toBe(`an entry cannot be named ${JSON.stringify(name)}`);
  });

  it("takes nothing more once it is finished", async () => {
    const { archive } = archiveInMemory();
    await archive.finish();
    expect((await errorOf(add(archive, "late", Buffer.from("x")))).code).toBe("bug");
    expect((await errorOf(archive.finish())).message).toBe("an archive was finished twice");
  });

  it("refuses a name that is taken", async () => {
    const { archive } = archiveInMemory();
    await add(archive, "a", Buffer.from("x"));
    expect((await errorOf(add(archive, "a", Buffer.from("y")))).message).toBe(
      "two entries of one backup are named a",
    );
  });
});

describe("an entry", () => {
  it("that is not what was backed up is refused at its end", async () => {
    const { archive, read } = archiveInMemory();
    const entry = await add(archive, "orders", sampleBytes(3000));
    const other = await add(archive, "users", sampleBytes(3001).subarray(1));
    await archive.finish();
    const error = await errorOf(read({ ...entry, sha256: "0".repeat(64) }));
    expect(error.code).toBe("object_corrupt");
    expect(error.message).toBe(
      `entry orders of backup ${BACKUP_ID} is not what was backed up: its SHA-256 differs`,
    );
    expect((await errorOf(read({ ...entry, segments: other.segments.slice(0, 1) }))).exitCode).toBe(4);
  });

  it("whose packs were exchanged is refused", async () => {
    const { archive, stored, read } = archiveInMemory();
    const entry = await add(archive, "orders", sampleBytes(30_000));
    await archive.finish();
    stored.set("data/000001.jbk", stored.get("data/000002.jbk") as Buffer);
    expect((await errorOf(read(entry))).code).toBe("container_foreign");
  });

  it("longer than its pack is refused", async () => {
    const { archive, read } = archiveInMemory();
    const entry = await add(archive, "orders", sampleBytes(100));
    await archive.finish();
    const segments = [{ object: "data/000001.jbk", offset: 0, bytes: 101 }];
    expect((await errorOf(read({ ...entry, segments }))).message).toBe(
      `data/000001.jbk of backup ${BACKUP_ID} holds 100 bytes; 101 were asked for`,
    );
  });
});

describe("many entries in one pass", () => {
  it("come back whole, in any selection and order, also when some are left unread", async () => {
    const { archive, source } = archiveInMemory();
    const inputs = new Map<string, Buffer>();
    for (let at = 0; at < 12; at++) {
      const bytes = sampleBytes(5000).subarray(at, at + at * 397);
      inputs.set((await add(archive, `file-${at}`, bytes)).name, bytes);
    }
    const { entries } = await archive.finish();
    const options = { ...BACKUP, dataKey: DATA_KEY, source };
    await fc.assert(
      fc.asyncProperty(fc.shuffledSubarray(entries), fc.nat(3), async (chosen, skipped) => {
        let at = 0;
        for await (const { entry, content } of openEntries(chosen, options)) {
          if (at++ === skipped) continue;
          if (at === skipped + 2) for await (const _first of content) break;
          else expect((await collect(content)).equals(inputs.get(entry.name) as Buffer)).toBe(true);
        }
        expect(at).toBe(chosen.length);
      }),
      { numRuns: 40 },
    );
  });

  it("open each pack once when they come in their own order", async () => {
    const { archive, stored, source } = archiveInMemory();
    for (let at = 0; at < 200; at++) await add(archive, `file-${at}`, sampleBytes(300));
    const { entries } = await archive.finish();
    const opened: string[] = [];
    const counted = (name: string) => {
      opened.push(name);
      return source(name);
    };
    for await (const { content } of openEntries(entries, { ...BACKUP, dataKey: DATA_KEY, source: counted }))
      expect(await collect(content)).toEqual(sampleBytes(300));
    expect(opened).toEqual([...stored.keys()].filter((name) => name !== "contents.jbk").toSorted());
    expect(opened.length).toBeGreaterThan(2);
  });

  it("are checked like a single one", async () => {
    const { archive, source } = archiveInMemory();
    const entry = await add(archive, "orders", sampleBytes(3000));
    await archive.finish();
    const readOne = async (wrong: Entry): Promise<void> => {
      const options = { ...BACKUP, dataKey: DATA_KEY, source };
      for await (const { content } of openEntries([wrong], options)) await collect(content);
    };
    expect((await errorOf(readOne({ ...entry, sha256: "0".repeat(64) }))).code).toBe("object_corrupt");
    const segments = [{ object: "data/000001.jbk", offset: 2990, bytes: 20 }];
    expect((await errorOf(readOne({ ...entry, segments }))).message).toBe(
      `data/000001.jbk of backup ${BACKUP_ID} holds 3000 bytes; bytes 2990 to 3010 were asked for`,
    );
  });
});

describe("contents", () => {
  const entry: Entry = {
    name: "a",
    bytes: 1,
    sha256: "0".repeat(64),
    segments: [{ object: "data/000001.jbk", offset: 0, bytes: 1 }],
  };
  const openCrafted = async (contents: unknown): Promise<Contents> => {
    const text = typeof contents === "string" ? contents : JSON.stringify(contents);
    const compression = { codec: "zstd", level: 3 } as const;
    const options = { dataKey: DATA_KEY, context: contentsContext(BACKUP), compression };
    const object = await sealObject(inChunks(Buffer.from(text)), options);
    return openContents(sourceOf(Buffer.concat(object.chunks)), DATA_KEY, BACKUP);
  };

  it("of the right shape are read", async () => {
    const contents = { format: 1, entries: [entry], detail: {} };
    expect(await openCrafted(contents)).toEqual(contents);
  });

  it.each([
    ["it is not JSON", "{"],
    ["it is not a JSON object", []],
    ["detail is missing", { format: 1, entries: [] }],
    ["entries are missing", { format: 1, detail: {} }],
    ["entry 1 has a name that is taken", { format: 1, detail: {}, entries: [entry, entry] }],
    [
      "entry 0 is not well formed",
      { format: 1, detail: {}, entries: [{ ...entry, name: "../../root/.ssh/x" }] },
    ],
    ["entry 0 is not well formed", { format: 1, detail: {}, entries: [{ ...entry, bytes: -1 }] }],
    ["entry 0 is not well formed", { format: 1, detail: {}, entries: [{ ...entry, bytes: 2 }] }],
    [
      "entry 0 is not well formed",
      { format: 1, detail: {}, entries: [{ ...entry, segments: [{ object: "/x" }] }] },
    ],
  ])("are refused when %s", async (problem, contents) => {
    const error = await errorOf(openCrafted(contents));
    expect(error.message).toBe(`contents.jbk of backup ${BACKUP_ID} is no list of contents: ${problem}`);
    expect(error.exitCode).toBe(4);
  });

  it("of a later format are not called damaged", async () => {
    expect((await errorOf(openCrafted({ format: 2 }))).code).toBe("version_mismatch");
  });
});
