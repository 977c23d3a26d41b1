import assert from "node:assert/strict";
import { isJBackupError } from "../domain/errors.js";
import { bytesBody, sha256Of } from "./body.js";
import type { ByteRange, ObjectBody, Storage } from "./storage.js";

/** One promise of the port, as a sentence, and the proof that a storage keeps it. It works below the folder only. */
export interface ContractCheck {
  name: string;
  run(storage: Storage, folder: string): Promise<void>;
}

export interface ContractSizes {
  /** Enough to be stored in several parts. */
  largeBytes: number;
}

const DEFAULT_SIZES: ContractSizes = { largeBytes: 17 * 1024 * 1024 + 11 };

const text = (content: string): ObjectBody => bytesBody([Buffer.from(content)]);

/** The same bytes for the same length, without ever repeating in step with a block. */
function pattern(bytes: number): Buffer {
  const filled = Buffer.allocUnsafe(bytes);
  for (let at = 0, value = 1; at < bytes; at++) {
    value = (value * 1_103_515_245 + 12_345) & 0x7fffffff;
    filled[at] = value >>> 16;
  }
  return filled;
}

const read = async (storage: Storage, key: string, range?: ByteRange): Promise<Buffer> => {
  const chunks: Uint8Array[] = [];
  for await (const chunk of storage.get(key, range ? { range } : {})) chunks.push(chunk);
  return Buffer.concat(chunks);
};

const keysOf = async (storage: Storage, prefix: string): Promise<string[]> => {
  const keys: string[] = [];
  for await (const { key } of storage.list(prefix)) keys.push(key);
  return keys;
};

const rejects = async (work: Promise<unknown>, code: Parameters<typeof isJBackupError>[1]): Promise<void> => {
  const outcome = await work.then(
    () => "it succeeded",
    (error: unknown) => (isJBackupError(error, code) ? undefined : error),
  );
  assert.equal(outcome, undefined, `expected ${code}, but ${String(outcome)}`);
};

const checks = ({ largeBytes }: ContractSizes): ContractCheck[] => [
  {
    name: "gives back the bytes that were put, under a key with folders",
    async run(storage, folder) {
      await storage.put(`${folder}a/b/c.jbk`, text("three copies"));
      assert.equal((await read(storage, `${folder}a/b/c.jbk`)).toString(), "three copies");
    },
  },
  {
    name: "stores an empty body",
    async run(storage, folder) {
      await storage.put(`${folder}empty`, bytesBody([]));
      assert.equal((await read(storage, `${folder}empty`)).length, 0);
      assert.equal((await storage.stat(`${folder}empty`))?.bytes, 0);
    },
  },
  {
    name: "stores odd sizes given in odd chunks",
    async run(storage, folder) {
      for (const bytes of [1, 4095, 65_537, 262_145]) {
        const content = pattern(bytes);
        const body = bytesBody([content.subarray(0, 1), content.subarray(1, 1), content.subarray(1)]);
        await storage.put(`${folder}odd-${bytes}`, body);
        assert.ok(
          content.equals(await read(storage, `${folder}odd-${bytes}`)),
          `${bytes} bytes came back changed`,
        );
      }
    },
  },
  {
    name: "stores a body of several parts",
    async run(storage, folder) {
      const content = pattern(largeBytes);
      const body = bytesBody([content]);
      await storage.put(`${folder}large`, body);
      assert.equal((await storage.stat(`${folder}large`))?.bytes, largeBytes);
      assert.equal(await sha256Of(storage.get(`${folder}large`)), body.sha256);
      const range = { start: largeBytes - 70_000, end: largeBytes - 5 };
      assert.ok(
        content.subarray(range.start, range.end).equals(await read(storage, `${folder}large`, range)),
      );
      await storage.put(`${folder}large`, body);
    },
  },
  {
    name: "answers ranges exactly, an empty one with nothing",
    async run(storage, folder) {
      const key = `${folder}range`;
      await storage.put(key, text("0123456789"));
      assert.equal((await read(storage, key, { start: 0, end: 10 })).toString(), "0123456789");
      assert.equal((await read(storage, key, { start: 3, end: 7 })).toString(), "3456");
      assert.equal((await read(storage, key, { start: 9, end: 10 })).toString(), "9");
      assert.equal((await read(storage, key, { start: 4, end: 4 })).length, 0);
    },
  },
  {
    name: "refuses a range beyond the end instead of yielding less",
    async run(storage, folder) {
      await storage.put(`${folder}short`, text("0123456789"));
      await rejects(read(storage, `${folder}short`, { start: 5, end: 11 }), "object_truncated");
      await rejects(read(storage, `${folder}short`, { start: 20, end: 30 }), "object_truncated");
    },
  },
  {
    name: "rejects with object_missing what is not there, and stat answers undefined",
    async run(storage, folder) {
      await rejects(read(storage, `${folder}absent`), "object_missing");
      await rejects(read(storage, `${folder}absent`, { start: 0, end: 1 }), "object_missing");
      await rejects(read(storage, `${folder}absent`, { start: 0, end: 0 }), "object_missing");
      assert.equal(await storage.stat(`${folder}absent`), undefined);
      await storage.put(`${folder}folder/object`, text("x"));
      assert.equal(await storage.stat(`${folder}folder`), undefined);
      assert.equal(await storage.stat(`${folder}folder/object/below`), undefined);
    },
  },
  {
    name: "tells size and time",
    async run(storage, folder) {
      await storage.put(`${folder}facts`, text("12345"));
      const facts = await storage.stat(`${folder}facts`);
      assert.equal(facts?.key, `${folder}facts`);
      assert.equal(facts?.bytes, 5);
      assert.ok((facts?.modifiedAt.getTime() ?? 0) > Date.UTC(2020, 0), "the time of the object is missing");
    },
  },
  {
    name: "takes the same body again",
    async run(storage, folder) {
      await storage.put(`${folder}same`, text("same"));
      await storage.put(`${folder}same`, text("same"));
      assert.deepEqual(await keysOf(storage, `${folder}same`), [`${folder}same`]);
    },
  },
  {
    name: "refuses another body under an existing key, and keeps the first",
    async run(storage, folder) {
      const key = `${folder}once`;
      await storage.put(key, text("first"));
      await rejects(storage.put(key, text("other")), "object_exists");
      await rejects(storage.put(key, text("a longer one")), "object_exists");
      assert.equal((await read(storage, key)).toString(), "first");
    },
  },
  {
    name: "replaces when told to",
    async run(storage, folder) {
      const key = `${folder}replaced`;
      await storage.put(key, text("first"), { replace: true });
      await storage.put(key, text("second, longer"), { replace: true });
      assert.equal((await read(storage, key)).toString(), "second, longer");
      assert.equal((await storage.stat(key))?.bytes, 14);
    },
  },
  {
    name: "lets one of several concurrent writers of a key win, and refuses the others",
    async run(storage, folder) {
      const key = `${folder}race`;
      const outcomes = await Promise.allSettled(
        ["one", "two", "six"].map((word) => storage.put(key, text(word))),
      );
      const refused = outcomes.filter((outcome) => outcome.status === "rejected");
      for (const { reason } of refused) assert.ok(isJBackupError(reason, "object_exists"), String(reason));
      assert.equal(refused.length, 2, `${3 - refused.length} writers believe that they won`);
      const winner = ["one", "two", "six"][outcomes.findIndex((outcome) => outcome.status === "fulfilled")];
      assert.equal((await read(storage, key)).toString(), winner);
    },
  },
  {
    name: "takes the same body from several writers at once",
    async run(storage, folder) {
      await Promise.all([1, 2, 3].map(() => storage.put(`${folder}chorus`, text("same"))));
      assert.equal((await read(storage, `${folder}chorus`)).toString(), "same");
    },
  },
  {
    name: "shows nothing after an aborted put",
    async run(storage, folder) {
      for (const bytes of [100_000, largeBytes]) {
        const abort = new AbortController();
        const content = pattern(bytes);
        const body: ObjectBody = {
          bytes,
          sha256: bytesBody([content]).sha256,
          async *read(start, end) {
            yield content.subarray(start, Math.min(end, start + 1000));
            abort.abort(new Error("stopped"));
            yield content.subarray(Math.min(end, start + 1000), end);
          },
        };
        await assert.rejects(
          storage.put(`${folder}aborted-${bytes}`, body, { signal: abort.signal }),
          /stopped/,
        );
        assert.equal(await storage.stat(`${folder}aborted-${bytes}`), undefined);
      }
      assert.deepEqual(await keysOf(storage, `${folder}aborted`), []);
    },
  },
  {
    name: "refuses a body that is not what it claims to be",
    async run(storage, folder) {
      const honest = text("what it claims");
      const changed: ObjectBody = { ...honest, read: text("another thing!").read };
      await rejects(storage.put(`${folder}changed`, changed), "object_corrupt");
      await rejects(
        storage.put(`${folder}changed`, { ...honest, read: text("less").read }),
        "object_corrupt",
      );
      assert.equal(await storage.stat(`${folder}changed`), undefined);
    },
  },
  {
    name: "deletes, also what is not there",
    async run(storage, folder) {
      await storage.put(`${folder}gone/object`, text("x"));
      await storage.delete(`${folder}gone/object`);
      await storage.delete(`${folder}gone/object`);
      assert.equal(await storage.stat(`${folder}gone/object`), undefined);
      assert.deepEqual(await keysOf(storage, `${folder}gone`), []);
      await storage.put(`${folder}gone/object`, text("back"));
      assert.equal((await read(storage, `${folder}gone/object`)).toString(), "back");
    },
  },
  {
    name: "lists by any prefix, ordered by key, over all pages",
    async run(storage, folder) {
      const names = [
        "a",
        "a-b",
        "a-b/c",
        "a.b",
        "a/b",
        "a/b.x",
        "a/c/d",
        "aa",
        "b/0",
        "b/1",
        "b/10",
        "b/2",
        "c",
      ];
      // A file system cannot hold both `a` and `a/b`.
      const ours = names.filter((name) => !names.some((other) => other.startsWith(`${name}/`)));
      await Promise.all(ours.map((name) => storage.put(`${folder}list/${name}`, text(name))));
      const listed = async (prefix: string): Promise<string[]> =>
        (await keysOf(storage, `${folder}list/${prefix}`)).map((key) => key.slice(`${folder}list/`.length));
      const expected = (prefix: string): string[] => ours.filter((name) => name.startsWith(prefix)).sort();
      for (const prefix of ["", "a", "a-", "a/", "a/b", "b/1", "b/10", "aa", "zz", "a/b/", "c"]) {
        assert.deepEqual(await listed(prefix), expected(prefix), `prefix ${JSON.stringify(prefix)}`);
      }
      for (const after of ["a/b", "a/", "b/1", "zz", "0"]) {
        const behind: string[] = [];
        for await (const { key } of storage.list(`${folder}list/`, `${folder}list/${after}`))
          behind.push(key.slice(`${folder}list/`.length));
        assert.deepEqual(
          behind,
          expected("").filter((name) => name > after),
          `behind ${JSON.stringify(after)}`,
        );
      }
    },
  },
  {
    name: "shows in a list what it took without a look of its own",
    async run(storage, folder) {
      const body = text("listed later");
      await storage.put(`${folder}later/object`, body, { isFresh: true, isListedLater: true });
      const found: [string, number][] = [];
      for await (const { key, bytes } of storage.list(`${folder}later/`)) found.push([key, bytes]);
      assert.deepEqual(found, [[`${folder}later/object`, body.bytes]]);
    },
  },
  {
    name: "sweeps nothing that is finished or fresh",
    async run(storage, folder) {
      await storage.put(`${folder}swept/object`, text("x"));
      await storage.sweep(`${folder}swept/`, 24 * 3_600_000);
      assert.equal((await read(storage, `${folder}swept/object`)).toString(), "x");
    },
  },
];

/** Every promise of the port. The same list proves an adapter in the tests and a live storage on the user's side. */
export const storageContract = (sizes: ContractSizes = DEFAULT_SIZES): ContractCheck[] => checks(sizes);
