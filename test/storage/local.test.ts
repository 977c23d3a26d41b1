import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { LocalStorage } from "../../src/storage/local.js";
import { SITE_MARKER } from "../../src/storage/marker.js";
import { bytesBody, type ObjectBody } from "../../src/storage/storages.js";
import { isTemporaryName, writeFileAtomic } from "../../src/sys/atomicFile.js";
import { systemClock } from "../../src/sys/clock.js";
import { canMount, mountSmallDisk } from "../support/tmpfs.js";

let directory: string;
let root: string;
const at = (path: string): LocalStorage =>
  new LocalStorage({ kind: "local", name: "local", path }, systemClock);
const text = (content: string): ObjectBody => bytesBody([Buffer.from(content)]);
const keys = async (storage: LocalStorage, prefix = ""): Promise<string[]> => {
  const found: string[] = [];
  for await (const { key } of storage.list(prefix)) found.push(key);
  return found;
};
const drain = async (storage: LocalStorage, key: string): Promise<string> => {
  const chunks: Uint8Array[] = [];
  for await (const chunk of storage.get(key)) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
};
const everyFile = (): string[] => readdirSync(root, { recursive: true, encoding: "utf8" });

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "jbackup-local-"));
  root = join(directory, "root");
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(directory, { recursive: true });
});

describe("a local storage", () => {
  test.each([
    ["vanished", () => renameSync(root, `${root}-away`)],
    [
      "became another one",
      () => {
        renameSync(root, `${root}-away`);
        mkdirSync(root);
      },
    ],
  ])("takes nothing more once its folder %s, as when a disk is unmounted", async (_how, unmount) => {
    const storage = at(root);
    await storage.put("backups/a", text("first"));
    unmount();
    await expect(storage.put("backups/b", text("second"))).rejects.toMatchObject({
      code: "storage_unavailable",
      message: `storage local: put backups/b failed: ${root} is not the folder that it was`,
    });
    expect(existsSync(join(root, "backups"))).toBe(false);
    rmSync(root, { recursive: true, force: true });
    mkdirSync(root);
    writeFileSync(join(root, SITE_MARKER), "{}");
    await storage.put("backups/b", text("second"));
    expect(await drain(storage, "backups/b")).toBe("second");
  });

  test("keeps its files from other users", async () => {
    await at(root).put("a/b", text("x"));
    expect(lstatSync(join(root, "a/b")).mode & 0o777).toBe(0o600);
    expect(lstatSync(join(root, "a")).mode & 0o777).toBe(0o700);
    expect(lstatSync(root).mode & 0o777).toBe(0o700);
  });

  test("refuses keys that lead elsewhere", async () => {
    for (const key of [
      "../x",
      "a/../../x",
      "/etc/passwd",
      "a//b",
      "a/",
      "",
      ".",
      "a/./b",
      "a\\b",
      "a b",
      "ä",
      "a/~b",
      "x".repeat(201),
    ]) {
      await expect(at(root).put(key, text("x")), key).rejects.toThrow(
        `${JSON.stringify(key)} is not an object key`,
      );
      await expect(at(root).stat(key), key).rejects.toThrow("is not an object key");
    }
    await expect(keys(at(root), "../")).rejects.toThrow("is not the beginning of an object key");
  });

  test("does not follow links that somebody planted", async () => {
    mkdirSync(join(directory, "outside"));
    writeFileSync(join(directory, "outside/secret"), "secret");
    mkdirSync(root);
    symlinkSync(join(directory, "outside"), join(root, "folder"));
    symlinkSync(join(directory, "outside/secret"), join(root, "object"));
    const storage = at(root);
    await expect(storage.put("folder/new", text("x"))).rejects.toThrow(
      "storage local: stat folder/new failed: a symbolic link stands in the path",
    );
    await expect(storage.put("folder/new", text("x"), { replace: true })).rejects.toMatchObject({
      code: "storage_denied",
    });
    await expect(drain(storage, "folder/secret")).rejects.toMatchObject({ code: "storage_denied" });
    await expect(storage.delete("folder/secret")).rejects.toMatchObject({ code: "storage_denied" });
    await expect(drain(storage, "object")).rejects.toThrow();
    expect(await keys(storage)).toEqual([]);
    expect(readdirSync(join(directory, "outside"))).toEqual(["secret"]);
  });

  test("takes a root that is itself a link", async () => {
    mkdirSync(join(directory, "disk"));
    symlinkSync(join(directory, "disk"), root);
    await at(root).put("a/b", text("x"));
    expect(await drain(at(root), "a/b")).toBe("x");
  });

  test("does not take an absent root for an empty storage", async () => {
    await expect(keys(at(root))).rejects.toThrow(`storage local: list failed: ${root} does not exist`);
  });

  test("lists neither temporary files nor what other programs left", async () => {
    const storage = at(root);
    await storage.put("a/object", text("x"));
    writeFileSync(join(root, "a/~jbackup-0123456789abcdef.tmp"), "half");
    writeFileSync(join(root, "a/some file"), "foreign");
    mkdirSync(join(root, "lost+found"));
    expect(await keys(storage)).toEqual(["a/object"]);
  });

  test("sweeps temporary files that are old, and no others", async () => {
    const storage = at(root);
    await storage.put("a/object", text("x"));
    await storage.put("b/object", text("x"));
    const [old, fresh, elsewhere] = [
      "a/~jbackup-00000000000000aa.tmp",
      "a/~jbackup-00000000000000bb.tmp",
      "b/~jbackup-00000000000000cc.tmp",
    ].map((name) => join(root, name));
    for (const path of [old, fresh, elsewhere]) writeFileSync(path ?? "", "half");
    for (const path of [old, elsewhere]) utimesSync(path ?? "", new Date(0), new Date(0));
    expect(await storage.sweep("a/", 3_600_000)).toBe(1);
    expect([old, fresh, elsewhere].map((path) => existsSync(path ?? ""))).toEqual([false, true, true]);
    expect(await keys(storage)).toEqual(["a/object", "b/object"]);
  });

  test("removes the folders that a delete leaves empty, but never the root", async () => {
    const storage = at(root);
    await storage.put("2026/11/id/manifest.json", text("x"));
    await storage.delete("2026/11/id/manifest.json");
    expect(everyFile()).toEqual([]);
    expect(existsSync(root)).toBe(true);
  });

  test("puts and deletes side by side in the same folder", async () => {
    const storage = at(root);
    await Promise.all(
      Array.from({ length: 40 }, async (_, index) => {
        await storage.put(`deep/er/${index}`, text(String(index)));
        await storage.delete(`deep/er/${index}`);
      }),
    );
    expect(await keys(storage)).toEqual([]);
  });

  test("says so when an object is shorter than it was", async () => {
    const storage = at(root);
    await storage.put("object", text("0123456789"));
    truncateSync(join(root, "object"), 4);
    const read = async () => {
      for await (const _ of storage.get("object", { range: { start: 0, end: 10 } }));
    };
    await expect(read()).rejects.toThrow(
      "storage local: get object failed: the object ends after 4 of 10 bytes",
    );
  });

  test("knows the free space, also before the root is made", async () => {
    expect(await at(join(root, "not/yet")).freeBytes()).toBeGreaterThan(0);
  });

  test.skipIf(!canMount)("leaves no name behind on a full disk, and still deletes there", async () => {
    using disk = mountSmallDisk("1m");
    const storage = at(join(disk.path, "root"));
    await storage.put("small", bytesBody([Buffer.alloc(600_000, 1)]));
    await expect(storage.put("folder/big", bytesBody([Buffer.alloc(900_000, 2)]))).rejects.toMatchObject({
      code: "storage_full",
      message: expect.stringContaining(
        "storage local: put folder/big failed: ENOSPC: no space left on device",
      ),
    });
    expect(await keys(storage)).toEqual(["small"]);
    expect(
      readdirSync(disk.path, { recursive: true, encoding: "utf8" }).filter((path) => path.includes("~")),
    ).toEqual([]);
    await expect(
      storage.put("small", bytesBody([Buffer.alloc(900_000, 3)]), { replace: true }),
    ).rejects.toMatchObject({ code: "storage_full" });
    expect((await storage.stat("small"))?.bytes).toBe(600_000);
    writeFileSync(join(disk.path, "filler"), Buffer.alloc(await storage.freeBytes()));
    await storage.delete("small");
    await storage.put("small", bytesBody([Buffer.alloc(300_000, 4)]));
  });

  test.skipIf(!canMount)("says that a disk mounted read-only denies it", async () => {
    using disk = mountSmallDisk("1m");
    const storage = at(join(disk.path, "root"));
    await storage.put("object", text("x"));
    disk.makeReadOnly();
    await expect(storage.put("other", text("x"))).rejects.toMatchObject({
      code: "storage_denied",
      message: expect.stringContaining("EROFS"),
    });
    await expect(storage.delete("object")).rejects.toMatchObject({ code: "storage_denied" });
    expect(await drain(storage, "object")).toBe("x");
  });

  test.each([
    ["EIO", "storage_unavailable"],
    ["EDQUOT", "storage_full"],
  ])("fails the put when fsync fails with %s, and does not try it again", async (code, expected) => {
    mkdirSync(root);
    const handle = await open(root, "r");
    const sync = vi
      .spyOn(Object.getPrototypeOf(handle), "sync")
      .mockRejectedValue(Object.assign(new Error(`${code}: fsync`), { code, errno: -5 }));
    await handle.close();
    await expect(at(root).put("object", text("x"))).rejects.toMatchObject({ code: expected });
    expect(sync).toHaveBeenCalledTimes(1);
    expect(everyFile()).toEqual([]);
  });

  test("takes the name back when the folder cannot be made durable", async () => {
    mkdirSync(root);
    const handle = await open(root, "r");
    vi.spyOn(Object.getPrototypeOf(handle), "sync")
      .mockResolvedValueOnce(undefined)
      .mockRejectedValueOnce(Object.assign(new Error("EIO: fsync"), { code: "EIO", errno: -5 }));
    await handle.close();
    await expect(at(root).put("object", text("x"))).rejects.toThrow(
      "storage local: put object failed: EIO: fsync",
    );
    expect(everyFile()).toEqual([]);
  });
});

describe("writing a file atomically", () => {
  test("a mode is exactly the one that was asked for, whatever the umask", async () => {
    const before = process.umask(0o077);
    onTestFinished(() => void process.umask(before));
    const path = join(directory, "public");
    await writeFileAtomic(path, "x", { mode: 0o644 });
    expect(lstatSync(path).mode & 0o777).toBe(0o644);
  });

  test("refuses an existing file unless told to overwrite it", async () => {
    const path = join(directory, "file");
    await writeFileAtomic(path, "first");
    await expect(writeFileAtomic(path, "second")).rejects.toMatchObject({ code: "EEXIST" });
    await writeFileAtomic(path, "third", { overwrite: true });
    expect(readFileSync(path, "utf8")).toBe("third");
    expect(readdirSync(directory)).toEqual(["file"]);
  });

  test("makes the folder with the modes asked for", async () => {
    await writeFileAtomic(join(directory, "a/b/file"), Buffer.from("x"), {
      mode: 0o400,
      directoryMode: 0o750,
    });
    expect(lstatSync(join(directory, "a/b/file")).mode & 0o777).toBe(0o400);
    expect(lstatSync(join(directory, "a/b")).mode & 0o777).toBe(0o750);
  });

  test("leaves the old file when the content breaks off", async () => {
    const path = join(directory, "file");
    await writeFileAtomic(path, "old");
    const broken = async function* () {
      yield Buffer.from("new");
      throw new Error("source broke");
    };
    await expect(writeFileAtomic(path, broken(), { overwrite: true })).rejects.toThrow("source broke");
    expect(readFileSync(path, "utf8")).toBe("old");
    expect(readdirSync(directory).filter(isTemporaryName)).toEqual([]);
  });
});
