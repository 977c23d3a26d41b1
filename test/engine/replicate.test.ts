import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, unlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { JBackupError } from "../../src/domain/errors.js";
import { type FanOutSettings, fanOut, fetchVerified } from "../../src/engine/replicate.js";
import type { SealedObject } from "../../src/format/format.js";
import { bytesBody, openStorage, type Storage } from "../../src/storage/storages.js";
import { systemClock } from "../../src/sys/clock.js";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "jbackup-fan-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const open = (name: string): Promise<Storage> =>
  openStorage({ kind: "local", name, path: join(folder, name) }, { clock: systemClock });

/** The real storage, held up or failing where the test says so. */
function troubled(storage: Storage, beforePut: (key: string) => Promise<void>): Storage {
  return new Proxy(storage, {
    get(target, property) {
      if (property === "put")
        return async (...args: Parameters<Storage["put"]>) => {
          await beforePut(args[0]);
          return target.put(...args);
        };
      const value = Reflect.get(target, property, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

const objectNamed = (name: string, size = 50_000): SealedObject => {
  const bytes = randomBytes(size);
  return { name, bytes: size, sha256: createHash("sha256").update(bytes).digest("hex"), chunks: [bytes] };
};
const objects = (count: number): SealedObject[] =>
  Array.from({ length: count }, (_, n) => objectNamed(`data/${String(n + 1).padStart(6, "0")}.jbk`));

function settings(
  storages: Storage[],
  more: Partial<FanOutSettings> = {},
): FanOutSettings & { lost: string[] } {
  const lost: string[] = [];
  return {
    storages,
    folder: "backups/full/2026/11/x",
    minCopies: 2,
    signal: new AbortController().signal,
    toBody: bytesBody,
    onStored: () => undefined,
    onLost: (name) => lost.push(name),
    lost,
    ...more,
  };
}

const contentOf = async (storage: Storage, object: SealedObject): Promise<Buffer> => {
  const chunks: Uint8Array[] = [];
  for await (const chunk of storage.get(`backups/full/2026/11/x/${object.name}`)) chunks.push(chunk);
  return Buffer.concat(chunks);
};

const unavailable = (): JBackupError => new JBackupError("storage_unavailable", "b does not answer");

describe("one read to several storages", () => {
  test("puts every object and the manifest into each of them", async () => {
    const storages = await Promise.all(["a", "b", "c"].map(open));
    const out = fanOut(settings(storages));
    const all = objects(9);
    for (const object of all) await out.store(object);
    await out.settle();
    expect(await out.commit(Buffer.from("{}"))).toEqual(["a", "b", "c"]);
    for (const storage of storages) {
      for (const object of all) expect(await contentOf(storage, object)).toEqual(object.chunks[0]);
      expect(await storage.stat("backups/full/2026/11/x/manifest.json")).toMatchObject({ bytes: 2 });
    }
  });

  test("a stalled storage holds up nobody, and is fed from a finished copy when it comes back", async () => {
    let release: () => void = () => undefined;
    const stalled = new Promise<void>((resolve) => {
      release = resolve;
    });
    const [a, b] = await Promise.all([open("a"), open("b")]);
    const slow = troubled(b, () => stalled);
    const out = fanOut(settings([a, slow]));
    const all = objects(20);
    for (const object of all) await out.store(object); // would hang here if the slow one counted
    for (const object of all.slice(0, 15)) expect(await contentOf(a, object)).toEqual(object.chunks[0]);
    release();
    await out.settle();
    expect(await out.commit(Buffer.from("{}"))).toEqual(["a", "b"]);
    for (const object of all) expect(await contentOf(b, object)).toEqual(object.chunks[0]);
  });

  test("a storage that dies midway is left out, the others complete", async () => {
    const [a, b, c] = await Promise.all([open("a"), open("b"), open("c")]);
    const dying = troubled(b, async (key) => {
      if (key.endsWith("000003.jbk")) throw unavailable();
    });
    const given = settings([a, dying, c]);
    const out = fanOut(given);
    const all = objects(8);
    for (const object of all) await out.store(object);
    await out.settle();
    expect(await out.commit(Buffer.from("{}"))).toEqual(["a", "c"]);
    expect(given.lost).toEqual(["b"]);
    expect(await b.stat("backups/full/2026/11/x/manifest.json")).toBeUndefined();
  });

  test("too few storages left stop the run, and say which and why", async () => {
    const [a, b] = await Promise.all([open("a"), open("b")]);
    const dead = troubled(b, async () => {
      throw unavailable();
    });
    await a.put("backups/earlier", bytesBody([Buffer.from("stays")]));
    const out = fanOut(settings([a, dead]));
    const storing = (async () => {
      for (const object of objects(50)) await out.store(object);
      await out.settle();
    })();
    await expect(storing).rejects.toMatchObject({
      code: "too_few_copies",
      message: "only 1 of the 2 copies that minCopies asks for can be stored (b: b does not answer)",
    });
    await out.discard();
    const left = [];
    for await (const facts of a.list("backups/")) left.push(facts.key);
    expect(left).toEqual(["backups/earlier"]);
  });

  test("an object that was acknowledged but is not there costs the storage its copy", async () => {
    const [a, b, c] = await Promise.all([open("a"), open("b"), open("c")]);
    const given = settings([a, b, c]);
    const out = fanOut(given);
    const all = objects(3);
    for (const object of all) await out.store(object);
    while ((await c.stat(`${given.folder}/${all[2]?.name}`)) === undefined)
      await new Promise((r) => setTimeout(r, 5));
    await new Promise((resolve) => setTimeout(resolve, 50));
    await unlink(join(folder, "c", given.folder, all[1]?.name ?? ""));
    await out.settle();
    expect(await out.commit(Buffer.from("{}"))).toEqual(["a", "b"]);
    expect(out.failures().get("c")?.message).toBe(
      "c acknowledged backups/full/2026/11/x/data/000002.jbk, but it is not there",
    );
  });

  test("a manifest that reaches too few storages is taken back: the backup does not half exist", async () => {
    const [a, b] = await Promise.all([open("a"), open("b")]);
    const dying = troubled(b, async (key) => {
      if (key.endsWith("manifest.json")) throw unavailable();
    });
    const out = fanOut(settings([a, dying]));
    for (const object of objects(2)) await out.store(object);
    await out.settle();
    await expect(out.commit(Buffer.from("{}"))).rejects.toMatchObject({ code: "too_few_copies" });
    expect(await a.stat("backups/full/2026/11/x/manifest.json")).toBeUndefined();
  });

  test("an abort ends a wait at once", async () => {
    const [a, b] = await Promise.all([open("a"), open("b")]);
    const never = new Promise<void>(() => undefined);
    const abort = new AbortController();
    const out = fanOut(
      settings([troubled(a, () => never), troubled(b, () => never)], { signal: abort.signal }),
    );
    const storing = (async () => {
      for (const object of objects(20)) await out.store(object);
    })();
    setTimeout(() => abort.abort(new Error("stopped")), 20);
    await expect(storing).rejects.toThrow("stopped");
  });
});

describe("one object from several copies", () => {
  test("comes from the first whose digest is right, and each bad one is told", async () => {
    const storages = await Promise.all(["a", "b", "c"].map(open));
    const object = objectNamed("k");
    await storages[1]?.put("k", bytesBody(object.chunks));
    await storages[2]?.put("k", bytesBody(object.chunks));
    await writeFile(join(folder, "b", "k"), Buffer.alloc(object.bytes)).catch(async () => undefined);
    const bad: string[] = [];
    const signal = new AbortController().signal;
    const body = await fetchVerified(storages, "k", object, bytesBody, signal, async (storage) => {
      bad.push(storage.name);
    });
    expect(body.sha256).toBe(object.sha256);
    expect(bad).toEqual(["a", "b"]);
  });

  test("is an error that names every copy when none is good", async () => {
    const storages = await Promise.all(["a"].map(open));
    await expect(
      fetchVerified(storages, "k", objectNamed("k"), bytesBody, new AbortController().signal),
    ).rejects.toThrow(/^no storage has a good copy of k \(a: /);
  });
});
