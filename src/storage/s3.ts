import { addAbortSignal, Readable } from "node:stream";
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  type HeadObjectCommandOutput,
  ListObjectsV2Command,
  S3Client,
} from "@aws-sdk/client-s3";
import { NodeHttpHandler } from "@smithy/node-http-handler";
import type { S3StorageConfig } from "../domain/config.js";
import type { Clock } from "../sys/clock.js";
import { holdsBody } from "./body.js";
import { type Deed, endsTooEarly, objectExists, storageFailure } from "./failures.js";
import { checkKey, checkPrefix, isKey, type KeyPlace, keyPlace } from "./key.js";
import { type OpenedRead, type ReadRequest, resumedRead } from "./resume.js";
import { isNotImplemented, isStatus, isTaken, s3Failure } from "./s3Failures.js";
import { abortStaleUploads, putInParts, putWhole } from "./s3Multipart.js";
import type { GetOptions, ObjectBody, ObjectFacts, PutOptions, Storage } from "./storage.js";

export interface S3Options {
  clock: Clock;
  /** Longer bodies go in parts of this size. */
  partBytes?: number | undefined;
  parallelParts?: number | undefined;
  idleMs?: number | undefined;
  /** Keys to a page of a listing; the server's own limit by default. */
  pageSize?: number | undefined;
}

/** What a put needs to know about its destination. */
export interface S3Target {
  client: S3Client;
  bucket: string;
  /** The key inside the bucket, the configured prefix included. */
  objectKey: string;
  deed: Deed;
  writeOnce: boolean;
  signal: AbortSignal | undefined;
}

const PART_BYTES = 16 * 1024 * 1024;
const CONNECT_MS = 15_000;

/** The SDK warns on the console about failures that it leaves to its caller. */
const SILENT = { trace() {}, debug() {}, info() {}, warn() {}, error() {} };

export async function s3Client(config: S3StorageConfig, idleMs: number): Promise<S3Client> {
  const [accessKeyId, secretAccessKey] = await Promise.all([config.accessKeyId(), config.secretAccessKey()]);
  return new S3Client({
    endpoint: config.endpoint,
    region: config.region,
    credentials: { accessKeyId: accessKeyId.reveal(), secretAccessKey: secretAccessKey.reveal() },
    forcePathStyle: true,
    // R2 and B2 refuse the checksums that the SDK adds by default; bodies are signed with their SHA-256 instead.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    // The wrapper around every storage retries, with one budget for all of it.
    maxAttempts: 1,
    logger: SILENT,
    requestHandler: new NodeHttpHandler({ connectionTimeout: CONNECT_MS, socketTimeout: idleMs }),
  });
}

/** Cloudflare R2, AWS and whatever else speaks the S3 API. */
export class S3Storage implements Storage {
  readonly kind = "s3";
  readonly name: string;
  readonly location: string;
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #place: KeyPlace;
  readonly #options: S3Options;
  #bucketSeen = false;
  #takesConditions = true;

  private constructor(config: S3StorageConfig, client: S3Client, options: S3Options) {
    this.name = config.name;
    this.#client = client;
    this.#bucket = config.bucket;
    this.#place = keyPlace(config.prefix);
    this.#options = options;
    this.location = `${config.bucket}/${this.#place.inside("")} at ${new URL(config.endpoint).host}`;
  }

  static async open(config: S3StorageConfig, options: S3Options): Promise<S3Storage> {
    return new S3Storage(config, await s3Client(config, options.idleMs ?? 60_000), options);
  }

  async put(key: string, body: ObjectBody, options: PutOptions = {}): Promise<void> {
    const deed = this.#deed("put", checkKey(key));
    const { signal } = options;
    signal?.throwIfAborted();
    const writeOnce = options.replace !== true;
    // Not every server honours If-None-Match, so that a look comes first.
    const looks = writeOnce && options.isFresh !== true;
    if (looks && (await this.#head(deed)) !== undefined) return this.#settle(deed, body, signal);
    try {
      await this.#send({ ...this.#at(key), client: this.#client, deed, writeOnce, signal }, body);
    } catch (error) {
      signal?.throwIfAborted();
      if (writeOnce && isTaken(error)) return this.#settle(deed, body, signal);
      throw this.#failure(error, deed);
    }
    if (options.isListedLater !== true) await this.#settle(deed, body, signal);
  }

  async #send(target: S3Target, body: ObjectBody): Promise<void> {
    const partBytes = this.#options.partBytes ?? PART_BYTES;
    const send = (to: S3Target): Promise<void> =>
      body.bytes <= partBytes
        ? putWhole(to, body)
        : putInParts(to, body, { partBytes, parallel: this.#options.parallelParts ?? 3 });
    try {
      await send({ ...target, writeOnce: target.writeOnce && this.#takesConditions });
    } catch (error) {
      if (!target.writeOnce || !this.#takesConditions || !isNotImplemented(error)) throw error;
      // Some servers refuse the condition instead of honouring or ignoring it: the look beforehand must do there.
      this.#takesConditions = false;
      await send({ ...target, writeOnce: false });
    }
  }

  /**
   * What the server acknowledged must be there, and be ours. The digest stands in the metadata; an object that some other
   * tool copied here has none, and is read.
   */
  async #settle(deed: Deed, body: ObjectBody, signal: AbortSignal | undefined): Promise<void> {
    const found = await this.#head(deed);
    if (found === undefined)
      throw storageFailure(
        "storage_unavailable",
        deed,
        "the server acknowledged the object but does not have it",
      );
    const sha256 = found.Metadata?.sha256;
    const isOurs =
      found.ContentLength === body.bytes &&
      (sha256 === undefined ? await holdsBody(this, deed.key, body, signal) : sha256 === body.sha256);
    if (!isOurs) throw objectExists(this.name, deed.key);
  }

  get(key: string, options: GetOptions = {}): AsyncIterable<Uint8Array> {
    const deed = this.#deed("get", checkKey(key));
    return resumedRead(deed, options, {
      open: (request) => this.#open(deed, request, options.signal),
      exists: async () => (await this.#head(deed)) !== undefined,
    });
  }

  async #open(deed: Deed, request: ReadRequest, signal: AbortSignal | undefined): Promise<OpenedRead> {
    const isRanged = request.start > 0 || request.end !== undefined;
    const command = new GetObjectCommand({
      ...this.#object(deed.key),
      ...(isRanged
        ? { Range: `bytes=${request.start}-${request.end === undefined ? "" : request.end - 1}` }
        : {}),
      ...(request.tag === undefined ? {} : { IfMatch: request.tag }),
    });
    try {
      const answer = await this.#client.send(command, signal === undefined ? {} : { abortSignal: signal });
      const objectBytes = isRanged ? totalOf(answer.ContentRange) : answer.ContentLength;
      if (!(answer.Body instanceof Readable) || objectBytes === undefined || answer.ETag === undefined)
        throw storageFailure("storage_unavailable", deed, "the answer is not that of an object");
      const chunks = signal === undefined ? answer.Body : addAbortSignal(signal, answer.Body);
      return { chunks, tag: answer.ETag, objectBytes };
    } catch (error) {
      signal?.throwIfAborted();
      if (isTaken(error))
        throw storageFailure("storage_unavailable", deed, "the object was replaced while it was being read");
      if (isStatus(error, 404)) await this.#requireBucket(deed);
      if (isStatus(error, 416))
        throw endsTooEarly(deed, (await this.#head(deed))?.ContentLength ?? 0, request.end ?? request.start);
      throw this.#failure(error, deed);
    }
  }

  async stat(key: string): Promise<ObjectFacts | undefined> {
    const found = await this.#head(this.#deed("stat", checkKey(key)));
    if (found === undefined) return undefined;
    return { key, bytes: found.ContentLength ?? 0, modifiedAt: found.LastModified ?? new Date(0) };
  }

  async #head(deed: Deed): Promise<HeadObjectCommandOutput | undefined> {
    try {
      const found = await this.#client.send(new HeadObjectCommand(this.#object(deed.key)));
      if (found.ContentLength === undefined || found.ETag === undefined)
        throw storageFailure("storage_unavailable", deed, "the answer is not that of an object");
      this.#bucketSeen = true;
      return found;
    } catch (error) {
      if (!isStatus(error, 404)) throw this.#failure(error, deed);
      await this.#requireBucket(deed);
      return undefined;
    }
  }

  /** A 404 without body means a missing object as well as a missing bucket, and only the first may read as "not there". */
  async #requireBucket(deed: Deed): Promise<void> {
    if (this.#bucketSeen) return;
    try {
      await this.#client.send(new HeadBucketCommand({ Bucket: this.#bucket }));
    } catch (error) {
      if (isStatus(error, 404)) throw storageFailure("not_found", deed, `no such bucket: ${this.#bucket}`);
      throw this.#failure(error, { ...deed, key: "" });
    }
    this.#bucketSeen = true;
  }

  async *list(prefix: string, after?: string): AsyncIterable<ObjectFacts> {
    const deed = this.#deed("list", checkPrefix(prefix));
    for (let token: string | undefined; ; ) {
      const page = await this.#page(deed, token, after);
      for (const { Key = "", Size, LastModified } of page.Contents ?? []) {
        const key = this.#place.outside(Key);
        if (!isKey(key)) continue;
        if (Size === undefined || LastModified === undefined)
          throw storageFailure("storage_unavailable", deed, `the listing is incomplete at ${key}`);
        yield { key, bytes: Size, modifiedAt: LastModified };
      }
      token = page.NextContinuationToken;
      if (page.IsTruncated !== true) return;
      if (token === undefined)
        throw storageFailure("storage_unavailable", deed, "the listing breaks off without a next page");
    }
  }

  async #page(deed: Deed, ContinuationToken: string | undefined, after: string | undefined) {
    try {
      const page = await this.#client.send(
        new ListObjectsV2Command({
          Bucket: this.#bucket,
          Prefix: this.#place.inside(deed.key),
          ContinuationToken,
          StartAfter: after === undefined ? undefined : this.#place.inside(after),
          MaxKeys: this.#options.pageSize,
        }),
      );
      // Something else than an S3 server may answer 200 too, and then "no objects" would be a lie.
      if (page.Name === undefined)
        throw storageFailure("storage_unavailable", deed, "the answer is not a listing");
      return page;
    } catch (error) {
      throw this.#failure(error, { ...deed, key: "" });
    }
  }

  async delete(key: string): Promise<void> {
    const deed = this.#deed("delete", checkKey(key));
    try {
      await this.#client.send(new DeleteObjectCommand(this.#object(key)));
    } catch (error) {
      if (!isStatus(error, 404)) throw this.#failure(error, deed);
      await this.#requireBucket(deed);
    }
  }

  async sweep(prefix: string, olderThanMs: number): Promise<number> {
    const deed = this.#deed("sweep", checkPrefix(prefix));
    const before = this.#options.clock.now().getTime() - olderThanMs;
    try {
      const uploads = { client: this.#client, bucket: this.#bucket, prefix: this.#place.inside(prefix) };
      return await abortStaleUploads(uploads, before);
    } catch (error) {
      throw this.#failure(error, { ...deed, key: "" });
    }
  }

  async close(): Promise<void> {
    this.#client.destroy();
  }

  #deed(verb: Deed["verb"], key: string): Deed {
    return { storage: this.name, verb, key };
  }

  #at(key: string): { bucket: string; objectKey: string } {
    return { bucket: this.#bucket, objectKey: this.#place.inside(key) };
  }

  #object(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#bucket, Key: this.#place.inside(key) };
  }

  #failure(error: unknown, deed: Deed): unknown {
    return s3Failure(error, deed, this.#options.clock.now());
  }
}

/** `bytes 0-9/100`: also the proof that the server understood the range. */
const totalOf = (contentRange: string | undefined): number | undefined => {
  const total = contentRange?.match(/^bytes \d+-\d+\/(\d+)$/)?.[1];
  return total === undefined ? undefined : Number(total);
};
