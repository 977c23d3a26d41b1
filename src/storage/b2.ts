import type { FileVersion } from "backblaze-b2";
import type { B2StorageConfig } from "../domain/config.js";
import { isJBackupError } from "../domain/errors.js";
import type { Clock } from "../sys/clock.js";
import { B2Refusal, b2Failure, isRefusal } from "./b2Failures.js";
import { B2Session } from "./b2Session.js";
import { type B2Target, encodedName, UploadUrls, uploadInParts, uploadWhole } from "./b2Upload.js";
import { holdsBody } from "./body.js";
import { type Deed, endsTooEarly, objectExists, storageFailure } from "./failures.js";
import { checkKey, checkPrefix, isKey, type KeyPlace, keyPlace } from "./key.js";
import { type OpenedRead, type ReadRequest, resumedRead } from "./resume.js";
import type { GetOptions, ObjectBody, ObjectFacts, PutOptions, Storage } from "./storage.js";

export interface B2Options {
  clock: Clock;
  /** Longer bodies go in parts of this size; by default what B2 recommends for the account. */
  partBytes?: number | undefined;
  parallelParts?: number | undefined;
  idleMs?: number | undefined;
  pageSize?: number | undefined;
}

const PAGE_SIZE = 1000;

/**
 * Backblaze B2 by its native API. A name may have several versions there, and every upload adds one:
 * write-once is ours to keep, by looking before and after.
 */
export class B2Storage implements Storage {
  readonly kind = "b2";
  readonly name: string;
  readonly location: string;
  readonly #session: B2Session;
  readonly #place: KeyPlace;
  readonly #options: B2Options;
  readonly #uploadUrls: UploadUrls;

  private constructor(config: B2StorageConfig, session: B2Session, options: B2Options) {
    this.name = config.name;
    this.#session = session;
    this.#place = keyPlace(config.prefix);
    this.#options = options;
    this.location = `${config.bucket}/${this.#place.inside("")} at Backblaze B2`;
    this.#uploadUrls = new UploadUrls(() =>
      session.call((b2, { bucketId }) => b2.getUploadUrl({ bucketId })),
    );
  }

  static async open(config: B2StorageConfig, options: B2Options): Promise<B2Storage> {
    return new B2Storage(config, await B2Session.open(config, options.idleMs ?? 60_000), options);
  }

  async put(key: string, body: ObjectBody, options: PutOptions = {}): Promise<void> {
    const deed = this.#deed("put", checkKey(key));
    const { signal, replace = false, isFresh = false } = options;
    signal?.throwIfAborted();
    try {
      const found = replace || isFresh ? undefined : await this.#find(key);
      if (found !== undefined) return await this.#requireSame(deed, found, body, signal);
      const fileId = await this.#upload(
        { session: this.#session, fileName: this.#place.inside(key), deed, signal },
        body,
      );
      if (options.isListedLater !== true) await this.#settle(deed, fileId, body, replace);
    } catch (error) {
      signal?.throwIfAborted();
      throw this.#failure(error, deed);
    }
  }

  async #upload(target: B2Target, body: ObjectBody): Promise<string> {
    const { recommendedPartBytes, leastPartBytes } = await this.#session.account();
    const partBytes = Math.max(leastPartBytes, this.#options.partBytes ?? recommendedPartBytes);
    if (body.bytes <= partBytes) return uploadWhole(target, body, this.#uploadUrls);
    return uploadInParts(target, body, { partBytes, parallel: this.#options.parallelParts ?? 3 });
  }

  /**
   * What B2 acknowledged must be there. When two wrote the same name at the same moment the older version stays, and the
   * younger writer takes its own away: each looks after its upload, so that the younger one surely sees the older.
   */
  async #settle(deed: Deed, fileId: string, body: ObjectBody, replace: boolean): Promise<void> {
    const versions = await this.#visibleVersions(deed.key);
    const ours = versions.find((version) => version.fileId === fileId);
    if (ours?.contentLength !== body.bytes)
      throw storageFailure("storage_unavailable", deed, "B2 acknowledged the object but does not have it");
    if (replace) return this.#remove(versions.slice(versions.indexOf(ours) + 1));
    const oldest = versions.at(-1) ?? ours;
    if (oldest === ours) return;
    await this.#remove([ours]);
    await this.#requireSame(deed, oldest, body, undefined);
  }

  async #requireSame(
    deed: Deed,
    found: FileVersion,
    body: ObjectBody,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const sha256 = found.fileInfo?.sha256;
    const isSame =
      found.contentLength === body.bytes &&
      (sha256 === undefined ? await holdsBody(this, deed.key, body, signal) : sha256 === body.sha256);
    if (!isSame) throw objectExists(this.name, deed.key);
  }

  get(key: string, options: GetOptions = {}): AsyncIterable<Uint8Array> {
    const deed = this.#deed("get", checkKey(key));
    return resumedRead(deed, options, {
      open: (request) => this.#open(deed, request, options.signal),
      exists: async () => (await this.stat(key)) !== undefined,
    });
  }

  async #open(deed: Deed, request: ReadRequest, signal: AbortSignal | undefined): Promise<OpenedRead> {
    const isRanged = request.start > 0 || request.end !== undefined;
    const range = `bytes=${request.start}-${request.end === undefined ? "" : request.end - 1}`;
    try {
      const path = encodedName(this.#place.inside(deed.key));
      const answer = await this.#session.download(path, isRanged ? { Range: range } : {}, signal);
      const total = isRanged
        ? answer.headers["content-range"]?.match(/^bytes \d+-\d+\/(\d+)$/)?.[1]
        : answer.headers["content-length"];
      const tag = String(answer.headers["x-bz-file-id"] ?? "");
      const isSame = request.tag === undefined || request.tag === tag;
      if (total === undefined || tag === "" || !isSame) {
        answer.destroy();
        const reason = isSame
          ? "the answer is not that of an object"
          : "the object was replaced while it was being read";
        throw storageFailure("storage_unavailable", deed, reason);
      }
      return { chunks: answer, tag, objectBytes: Number(total) };
    } catch (error) {
      signal?.throwIfAborted();
      if (isRefusal(error, 416))
        throw endsTooEarly(deed, (await this.stat(deed.key))?.bytes ?? 0, request.end ?? request.start);
      throw this.#failure(error, deed);
    }
  }

  async stat(key: string): Promise<ObjectFacts | undefined> {
    const deed = this.#deed("stat", checkKey(key));
    try {
      const found = await this.#find(key);
      return found === undefined ? undefined : factsOf(key, found);
    } catch (error) {
      throw this.#failure(error, deed);
    }
  }

  async #find(key: string): Promise<FileVersion | undefined> {
    const fileName = this.#place.inside(key);
    const { files } = await this.#session.call((b2, { bucketId }) =>
      b2.listFileNames({ bucketId, prefix: fileName, startFileName: fileName, maxFileCount: 1 }),
    );
    return files.find((file) => file.fileName === fileName);
  }

  async *list(prefix: string, after?: string): AsyncIterable<ObjectFacts> {
    const deed = this.#deed("list", checkPrefix(prefix));
    const inside = this.#place.inside(prefix);
    const maxFileCount = this.#options.pageSize ?? PAGE_SIZE;
    const first = after === undefined || after < prefix ? inside : this.#place.inside(after);
    for (let startFileName: string | null = first; startFileName !== null; ) {
      const page = await this.#page(deed, { prefix: inside, startFileName, maxFileCount });
      for (const file of page.files) {
        const key = this.#place.outside(file.fileName);
        if (file.action === "upload" && isKey(key) && key !== after) yield factsOf(key, file);
      }
      startFileName = page.nextFileName;
    }
  }

  async #page(deed: Deed, query: { prefix: string; startFileName: string; maxFileCount: number }) {
    try {
      const page = await this.#session.call((b2, { bucketId }) => b2.listFileNames({ bucketId, ...query }));
      // Something else than B2 may answer 200 too, and then "no objects" would be a lie.
      if (!Array.isArray(page.files))
        throw storageFailure("storage_unavailable", deed, "the answer is not a listing");
      return page;
    } catch (error) {
      throw this.#failure(error, { ...deed, key: "" });
    }
  }

  async delete(key: string): Promise<void> {
    const deed = this.#deed("delete", checkKey(key));
    try {
      await this.#remove(await this.#versions(key));
    } catch (error) {
      throw this.#failure(error, deed);
    }
  }

  /** Oldest first: when it breaks off, no older content comes to light. */
  async #remove(versions: FileVersion[]): Promise<void> {
    for (const { fileId, fileName } of versions.toReversed()) {
      await this.#session.call((b2) => b2.deleteFileVersion({ fileId, fileName })).catch(ignoreGone);
    }
  }

  /** What readers can see of a name, newest first: a hide marker covers all that is older. */
  async #visibleVersions(key: string): Promise<FileVersion[]> {
    const versions = await this.#versions(key);
    const hiddenFrom = versions.findIndex((version) => version.action === "hide");
    return hiddenFrom < 0 ? versions : versions.slice(0, hiddenFrom);
  }

  /** All versions and hide markers of a name, newest first. Unfinished uploads are sweep's business. */
  async #versions(key: string): Promise<FileVersion[]> {
    const fileName = this.#place.inside(key);
    const versions: FileVersion[] = [];
    let start: { startFileName: string; startFileId?: string } = { startFileName: fileName };
    for (;;) {
      const page = await this.#session.call((b2, { bucketId }) =>
        b2.listFileVersions({
          bucketId,
          ...start,
          maxFileCount: this.#options.pageSize ?? PAGE_SIZE,
          axiosOverride: { data: { prefix: fileName } },
        }),
      );
      versions.push(...page.files.filter((file) => file.fileName === fileName && file.action !== "start"));
      if (page.nextFileName !== fileName || page.nextFileId === null) return versions;
      start = { startFileName: fileName, startFileId: page.nextFileId };
    }
  }

  async sweep(prefix: string, olderThanMs: number): Promise<number> {
    const deed = this.#deed("sweep", checkPrefix(prefix));
    const before = this.#options.clock.now().getTime() - olderThanMs;
    let cancelled = 0;
    try {
      for await (const file of this.#unfinished(this.#place.inside(prefix))) {
        if (file.uploadTimestamp > before) continue;
        await this.#session.call((b2) => b2.cancelLargeFile({ fileId: file.fileId })).catch(ignoreGone);
        cancelled++;
      }
    } catch (error) {
      throw this.#failure(error, { ...deed, key: "" });
    }
    return cancelled;
  }

  /** The package leaves this call out. */
  async *#unfinished(namePrefix: string): AsyncIterable<FileVersion> {
    for (let startFileId: string | null | undefined; startFileId !== null; ) {
      const page: { files: FileVersion[]; nextFileId: string | null } = await this.#session.post(
        "b2_list_unfinished_large_files",
        ({ bucketId }) => ({
          bucketId,
          namePrefix,
          maxFileCount: 100,
          ...(startFileId ? { startFileId } : {}),
        }),
      );
      yield* page.files;
      startFileId = page.nextFileId;
    }
  }

  async close(): Promise<void> {
    this.#session.close();
  }

  #deed(verb: Deed["verb"], key: string): Deed {
    return { storage: this.name, verb, key };
  }

  #failure(error: unknown, deed: Deed): unknown {
    return b2Failure(error, deed, this.#options.clock.now());
  }
}

const factsOf = (key: string, file: FileVersion): ObjectFacts => ({
  key,
  bytes: file.contentLength,
  modifiedAt: new Date(file.uploadTimestamp),
});

/** Somebody else removed it meanwhile. */
const ignoreGone = (error: unknown): void => {
  const isGone =
    isJBackupError(error, "object_missing") ||
    (error instanceof B2Refusal && ["file_not_present", "no_such_file", "not_found"].includes(error.code));
  if (!isGone) throw error;
};
