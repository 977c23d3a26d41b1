import { createHash } from "node:crypto";
import { constants } from "node:fs";
import {
  type FileHandle,
  lstat,
  open,
  readdir,
  realpath,
  rmdir,
  stat,
  statfs,
  unlink,
} from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { LocalStorageConfig } from "../domain/config.js";
import { isJBackupError, type JBackupError } from "../domain/errors.js";
import { isTemporaryName, makeDirectory, syncDirectory, writeFileAtomic } from "../sys/atomicFile.js";
import type { Clock } from "../sys/clock.js";
import { nameSystemError } from "../sys/systemErrors.js";
import { holdsBody } from "./body.js";
import {
  bodyChanged,
  checkRange,
  type Deed,
  endsTooEarly,
  objectExists,
  objectMissing,
  plainCause,
  storageFailure,
} from "./failures.js";
import { checkKey, checkPrefix, isKeySegment } from "./key.js";
import { SITE_MARKER } from "./marker.js";
import type { GetOptions, ObjectBody, ObjectFacts, PutOptions, Storage, StorageSpace } from "./storage.js";

const CHUNK_BYTES = 1 << 20;
const ABSENT = new Set(["ENOENT", "ENOTDIR"]);
const FULL = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);
/** No waiting cures these: rights, or a file where a folder should be. */
const DENIED = new Set(["EACCES", "EPERM", "EROFS", "ENOTDIR", "ELOOP", "ENAMETOOLONG"]);

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException | null)?.code ?? "";

/** Objects are files below a directory; a put goes through a temporary file beside the final name. */
export class LocalStorage implements Storage {
  readonly kind = "local";
  readonly name: string;
  readonly location: string;
  readonly #root: string;
  readonly #clock: Clock;
  /** Which folder the first put went into: where a disk is unmounted, another one shows under the same path. */
  #folder: string | undefined;

  constructor(config: LocalStorageConfig, clock: Clock) {
    this.name = config.name;
    this.#root = resolve(config.path);
    this.location = this.#root;
    this.#clock = clock;
  }

  async put(key: string, body: ObjectBody, options: PutOptions = {}): Promise<void> {
    const deed = this.#deed("put", checkKey(key));
    options.signal?.throwIfAborted();
    const looks = options.replace !== true && options.isFresh !== true; // taking a name that is taken fails anyway
    if (looks && (await this.stat(key)) !== undefined) return this.#settle(key, body);
    try {
      await this.#requireSameFolder(deed);
      await this.#refuseLinks(deed);
      await writeFileAtomic(this.#path(key), checked(body, deed), {
        overwrite: options.replace === true,
        signal: options.signal,
      });
    } catch (error) {
      options.signal?.throwIfAborted();
      if (codeOf(error) === "EEXIST") return this.#settle(key, body);
      throw failureOf(error, deed);
    }
  }

  async #requireSameFolder(deed: Deed): Promise<void> {
    if (this.#folder === undefined) await makeDirectory(this.#root);
    const found = await stat(this.#root).catch(forgiveAbsent);
    const folder = Array.isArray(found) ? "none" : `${found.dev}:${found.ino}`;
    this.#folder ??= folder;
    if (folder === this.#folder || (!Array.isArray(found) && !found.isDirectory())) return; // a put says what else it is
    if (Array.isArray(found) || (await this.stat(SITE_MARKER)) === undefined)
      throw storageFailure("storage_unavailable", deed, `${this.#root} is not the folder that it was`, {
        hint: `Look whether a disk was unmounted: what was stored in ${this.#root} is not there now.`,
      });
    this.#folder = folder; // the same disk, mounted again
  }

  /** Something stands under the key already: fine when it is the same body, and once its name outlasts a power cut. */
  async #settle(key: string, body: ObjectBody): Promise<void> {
    await this.#syncFolderOf(key);
    const facts = await this.stat(key);
    if (facts?.bytes !== body.bytes || !(await holdsBody(this, key, body)))
      throw objectExists(this.name, key);
  }

  /** Whoever put it there may have been killed before that, or is just about to do it. */
  async #syncFolderOf(key: string): Promise<void> {
    try {
      await syncDirectory(dirname(this.#path(key)));
    } catch (error) {
      if (!ABSENT.has(codeOf(error))) throw failureOf(error, this.#deed("put", key));
    }
  }

  async *get(key: string, options: GetOptions = {}): AsyncIterable<Uint8Array> {
    const deed = this.#deed("get", checkKey(key));
    options.signal?.throwIfAborted();
    const file = await this.#open(deed);
    try {
      const { size } = await file.stat();
      const { start, end } = options.range ? checkRange(options.range) : { start: 0, end: size };
      if (end > size) throw endsTooEarly(deed, size, end);
      for (let at = start; at < end; ) {
        options.signal?.throwIfAborted();
        const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, end - at));
        const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
        if (bytesRead === 0) throw endsTooEarly(deed, at, end);
        at += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
    } catch (error) {
      throw failureOf(error, deed);
    } finally {
      await file.close();
    }
  }

  async #open(deed: Deed): Promise<FileHandle> {
    try {
      await this.#refuseLinks(deed);
      const file = await open(
        this.#path(deed.key),
        constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
      );
      if ((await file.stat()).isFile()) return file;
      await file.close();
    } catch (error) {
      if (!ABSENT.has(codeOf(error))) throw failureOf(error, deed);
    }
    throw objectMissing(this.name, deed.key);
  }

  async stat(key: string): Promise<ObjectFacts | undefined> {
    const deed = this.#deed("stat", checkKey(key));
    try {
      await this.#refuseLinks(deed);
      const found = await lstat(this.#path(key));
      if (found.isSymbolicLink()) throw linkRefused(deed);
      return found.isFile() ? { key, bytes: found.size, modifiedAt: found.mtime } : undefined;
    } catch (error) {
      if (ABSENT.has(codeOf(error))) return undefined;
      throw failureOf(error, deed);
    }
  }

  async *list(prefix: string, after = ""): AsyncIterable<ObjectFacts> {
    const deed = this.#deed("list", checkPrefix(prefix));
    try {
      await this.#requireRoot(deed);
      for await (const found of this.#walk("", prefix, (name) => isKeySegment(name)))
        if (found.key > after) yield found;
    } catch (error) {
      throw failureOf(error, deed);
    }
  }

  /** Files below the directory in the order of their keys: a directory sorts as its name followed by the slash. */
  async *#walk(
    folder: string,
    prefix: string,
    wanted: (name: string) => boolean,
  ): AsyncIterable<ObjectFacts> {
    const entries = await readdir(join(this.#root, folder), { withFileTypes: true }).catch(forgiveAbsent);
    const keys = entries
      .filter((entry) => entry.isDirectory() || (entry.isFile() && wanted(entry.name)))
      .filter((entry) => !entry.isDirectory() || isKeySegment(entry.name))
      .map((entry) => folder + entry.name + (entry.isDirectory() ? "/" : ""))
      .filter((key) => key.startsWith(prefix) || (key.endsWith("/") && prefix.startsWith(key)))
      .sort((a, b) => (a < b ? -1 : 1));
    for (const key of keys) {
      if (key.endsWith("/")) {
        yield* this.#walk(key, prefix, wanted);
        continue;
      }
      const found = await lstat(join(this.#root, key)).catch(forgiveAbsent);
      if (!Array.isArray(found)) yield { key, bytes: found.size, modifiedAt: found.mtime };
    }
  }

  async delete(key: string): Promise<void> {
    const deed = this.#deed("delete", checkKey(key));
    try {
      await this.#refuseLinks(deed);
      await unlink(this.#path(key));
      await syncDirectory(dirname(this.#path(key)));
      await this.#pruneEmpty(dirname(key));
    } catch (error) {
      if (!ABSENT.has(codeOf(error))) throw failureOf(error, deed);
    }
  }

  async #pruneEmpty(folder: string): Promise<void> {
    for (let at = folder; at !== "."; at = dirname(at)) {
      try {
        await rmdir(join(this.#root, at));
      } catch (error) {
        if (["ENOTEMPTY", "EEXIST", "ENOENT", "EBUSY"].includes(codeOf(error))) return;
        throw error;
      }
    }
  }

  async sweep(prefix: string, olderThanMs: number): Promise<number> {
    const deed = this.#deed("sweep", checkPrefix(prefix));
    const before = this.#clock.now().getTime() - olderThanMs;
    const folder = prefix.slice(0, prefix.lastIndexOf("/") + 1);
    let swept = 0;
    try {
      for await (const found of this.#walk(folder, folder, isTemporaryName)) {
        if (found.modifiedAt.getTime() > before) continue;
        await unlink(join(this.#root, found.key)).catch(forgiveAbsent);
        swept++;
      }
    } catch (error) {
      throw failureOf(error, deed);
    }
    return swept;
  }

  async freeBytes(): Promise<number> {
    return (await this.space()).freeBytes;
  }

  /** Of the nearest directory that exists: a new storage has none of its own yet. As df has it, what is root's is used. */
  async space(): Promise<StorageSpace> {
    for (let at = this.#root; ; at = dirname(at)) {
      try {
        const { bavail, bfree, blocks, bsize } = await statfs(at);
        return { freeBytes: bavail * bsize, totalBytes: (blocks - bfree + bavail) * bsize };
      } catch (error) {
        if (codeOf(error) !== "ENOENT") throw failureOf(error, this.#deed("reach", ""));
      }
    }
  }

  async close(): Promise<void> {}

  #deed(verb: Deed["verb"], key: string): Deed {
    return { storage: this.name, verb, key };
  }

  #path(key: string): string {
    return join(this.#root, key);
  }

  /** An unmounted disk must not read as an empty storage. */
  async #requireRoot(deed: Deed): Promise<void> {
    const found = await stat(this.#root).catch(forgiveAbsent);
    // a file in its place is no storage that is empty
    if (!Array.isArray(found) && !found.isDirectory())
      throw storageFailure("storage_denied", deed, `${this.#root} is not a directory`, {
        hint: "Put the directory back, or correct the path of this storage in jbackup.yaml.",
      });
    if (Array.isArray(found))
      throw storageFailure("not_found", deed, `${this.#root} does not exist`, {
        hint: `Mount it, or make it with \`mkdir -m 700 ${this.#root}\` if this storage is new.`,
      });
  }

  /** A link planted below the root could lead reads and writes anywhere. The root itself may be a link. */
  async #refuseLinks(deed: Deed): Promise<void> {
    const folder = dirname(deed.key);
    if (folder === ".") return;
    for (let at = folder; ; at = dirname(at)) {
      const path = join(this.#root, at);
      const real = await realpath(path).catch(forgiveAbsent);
      if (Array.isArray(real)) {
        if (at === ".") return;
        continue;
      }
      if (real !== join(await realpath(this.#root), at)) throw linkRefused(deed);
      return;
    }
  }
}

const linkRefused = (deed: Deed): JBackupError =>
  storageFailure("storage_denied", deed, "a symbolic link stands in the path", {
    hint: "jbackup makes no links inside a storage: find out who did, and remove it.",
  });

/** What another process removed meanwhile is simply not there. */
const forgiveAbsent = (error: unknown): [] => {
  if (ABSENT.has(codeOf(error))) return [];
  throw error;
};

/** The body on its way to the disk, refused when its bytes are not the promised ones. */
async function* checked(body: ObjectBody, deed: Deed): AsyncIterable<Uint8Array> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of body.read(0, body.bytes)) {
    hash.update(chunk);
    bytes += chunk.length;
    yield chunk;
  }
  if (bytes !== body.bytes || hash.digest("hex") !== body.sha256) throw bodyChanged(deed, body);
}

function failureOf(error: unknown, deed: Deed): unknown {
  nameSystemError(error);
  if (isJBackupError(error) || typeof (error as { errno?: unknown } | null)?.errno !== "number") return error;
  const reason = plainCause(error).message;
  const { syscall } = error as NodeJS.ErrnoException;
  if (FULL.has(codeOf(error))) return storageFailure("storage_full", deed, reason, { cause: error });
  if (DENIED.has(codeOf(error)))
    return storageFailure("storage_denied", deed, reason, {
      cause: error,
      hint: "Give the user that runs jbackup write access to this directory, or mount it writable.",
    });
  if (syscall === "fsync")
    return storageFailure("storage_unavailable", deed, reason, {
      cause: error,
      details: { isFinal: true },
      hint: "The disk did not keep what was written: look into the kernel's log (dmesg). What is missing is copied later from another storage.",
    });
  return storageFailure("storage_unavailable", deed, reason, { cause: error });
}
