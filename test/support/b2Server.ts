import { createHash, randomBytes } from "node:crypto";
import {
  closeSync,
  createReadStream,
  mkdirSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";

/**
 * A strict stand-in for Backblaze B2's native API, version 2: it checks what B2 checks and forgets what B2 forgets.
 * Contents lie in a directory, the index in memory.
 */
export interface B2Server {
  endpoint: string;
  keyId: string;
  applicationKey: string;
  faults: B2Faults;
  /** Names of the calls since the start, `download` and `upload` for the transfers. */
  calls: string[];
  createBucket(name: string): void;
  /** Another application key, with these capabilities only. */
  createKey(capabilities: string[], namePrefix?: string): { keyId: string; applicationKey: string };
  /** Every token given out so far is answered with expired_auth_token. */
  expireTokens(): void;
  /** Every upload URL given out so far is refused. */
  expireUploadUrls(): void;
  /** The versions of a name, newest first, hide markers included. */
  versionsOf(bucket: string, fileName: string): { action: string; contentLength: number; fileId: string }[];
  /** Where the newest content lies, for tests that damage it. */
  contentPath(bucket: string, fileName: string): string;
  hide(bucket: string, fileName: string): void;
  /** Takes away the newest version without a word. */
  lose(bucket: string, fileName: string): void;
  unfinished(bucket: string): string[];
  stop(): Promise<void>;
}

/** What happens to the next requests for a call instead of the regular answer. */
export type B2Fault =
  | { kind: "refuse"; status: number; code: string; message?: string; retryAfter?: string }
  | { kind: "cut"; afterBytes: number }
  | { kind: "stall"; afterBytes: number }
  | { kind: "slow"; ms: number }
  /** Answers as if it had been done, and does nothing. */
  | { kind: "pretend"; body: unknown }
  /** Does it, and drops the connection instead of answering. */
  | { kind: "silent" };

export interface B2Faults {
  /** `call` is a name such as b2_list_file_names, or `upload`, `upload_part`, `download`. */
  next(call: string, fault: B2Fault, times?: number): void;
  clear(): void;
}

interface Version {
  fileId: string;
  fileName: string;
  action: "upload" | "hide" | "start";
  contentLength: number;
  contentSha1: string | null;
  uploadTimestamp: number;
  fileInfo: Record<string, string>;
  path: string;
}

interface Key {
  applicationKey: string;
  capabilities: string[];
  namePrefix: string | null;
}

/** What each call needs, as B2 documents it. */
const NEEDED: Record<string, string> = {
  b2_list_buckets: "listBuckets",
  b2_get_upload_url: "writeFiles",
  b2_get_upload_part_url: "writeFiles",
  b2_start_large_file: "writeFiles",
  b2_finish_large_file: "writeFiles",
  b2_cancel_large_file: "writeFiles",
  b2_hide_file: "writeFiles",
  b2_list_unfinished_large_files: "listFiles",
  b2_list_file_names: "listFiles",
  b2_list_file_versions: "listFiles",
  b2_delete_file_version: "deleteFiles",
};

interface Bucket {
  bucketId: string;
  bucketName: string;
  versions: Version[];
}

interface Large extends Version {
  bucket: Bucket;
  parts: Map<number, { sha1: string; bytes: number; path: string }>;
}

class Refusal extends Error {
  readonly status: number;
  readonly code: string;
  readonly retryAfter: string | undefined;

  constructor(status: number, code: string, message = code, retryAfter?: string) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

const LEAST_PART_BYTES = 5_000_000;
const FILE_NAME = /^(?!\/)(?!.*\/\/)(?!.*\/$)[^\p{Cc}\\]{1,1024}$/u;
const newId = (): string => `4_z${randomBytes(12).toString("hex")}`;
const byName = (a: { fileName: string }, b: { fileName: string }): number =>
  Buffer.compare(Buffer.from(a.fileName), Buffer.from(b.fileName));

export async function startB2Server(
  options: { dir?: string; port?: number; recommendedPartSize?: number } = {},
): Promise<B2Server> {
  const server = new StrictB2(options.dir ?? mkdtempSync(join(tmpdir(), "jbackup-b2-")), options);
  await server.listen(options.port ?? 0);
  return server;
}

class StrictB2 implements B2Server {
  readonly keyId = `00${randomBytes(10).toString("hex")}`;
  readonly applicationKey = `K00${randomBytes(14).toString("hex")}`;
  readonly calls: string[] = [];
  endpoint = "";
  readonly #directory: string;
  readonly #recommendedPartSize: number;
  readonly #accountId = randomBytes(6).toString("hex");
  readonly #buckets = new Map<string, Bucket>();
  readonly #large = new Map<string, Large>();
  readonly #tokens = new Map<string, boolean>();
  readonly #keys = new Map<string, Key>();
  readonly #keyOfToken = new Map<string, Key>();
  readonly #uploadUrls = new Map<
    string,
    { token: string; bucket: Bucket; large: Large | undefined; isBusy: boolean }
  >();
  readonly #faults: { call: string; fault: B2Fault; times: number }[] = [];
  readonly #server: Server;
  #timestamp = 0;

  constructor(directory: string, options: { recommendedPartSize?: number }) {
    this.#directory = directory;
    mkdirSync(directory, { recursive: true });
    this.#keys.set(this.keyId, {
      applicationKey: this.applicationKey,
      capabilities: ["listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles"],
      namePrefix: null,
    });
    this.#recommendedPartSize = options.recommendedPartSize ?? 100_000_000;
    this.#server = createServer((request, response) => {
      this.#serve(request, response).catch((error: unknown) => this.#refuse(request, response, error));
    });
  }

  readonly faults: B2Faults = {
    next: (call, fault, times = 1) => void this.#faults.push({ call, fault, times }),
    clear: () => void this.#faults.splice(0),
  };

  async listen(port: number): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(port, "127.0.0.1", resolve));
    this.endpoint = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  createBucket(bucketName: string): void {
    this.#buckets.set(bucketName, { bucketId: randomBytes(12).toString("hex"), bucketName, versions: [] });
  }

  createKey(capabilities: string[], namePrefix?: string): { keyId: string; applicationKey: string } {
    const keyId = `00${randomBytes(10).toString("hex")}`;
    const applicationKey = `K00${randomBytes(14).toString("hex")}`;
    this.#keys.set(keyId, { applicationKey, capabilities, namePrefix: namePrefix ?? null });
    return { keyId, applicationKey };
  }

  expireTokens(): void {
    for (const token of this.#tokens.keys()) this.#tokens.set(token, false);
  }

  expireUploadUrls(): void {
    this.#uploadUrls.clear();
  }

  versionsOf(bucket: string, fileName: string): Version[] {
    return this.#named(bucket).versions.filter((version) => version.fileName === fileName);
  }

  contentPath(bucket: string, fileName: string): string {
    return this.versionsOf(bucket, fileName)[0]?.path ?? "";
  }

  hide(bucket: string, fileName: string): void {
    this.#add(this.#named(bucket), {
      fileName,
      action: "hide",
      contentLength: 0,
      contentSha1: null,
      fileInfo: {},
      path: "",
    });
  }

  lose(bucket: string, fileName: string): void {
    const { versions } = this.#named(bucket);
    versions.splice(
      versions.findIndex((version) => version.fileName === fileName),
      1,
    );
  }

  unfinished(bucket: string): string[] {
    return [...this.#large.values()]
      .filter((large) => large.bucket.bucketName === bucket)
      .map((large) => large.fileName);
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #named(bucketName: string): Bucket {
    const bucket = this.#buckets.get(bucketName);
    if (bucket === undefined) throw new Error(`no bucket ${bucketName}`);
    return bucket;
  }

  #add(bucket: Bucket, version: Omit<Version, "fileId" | "uploadTimestamp">, fileId = newId()): Version {
    this.#timestamp = Math.max(this.#timestamp + 1, Date.now());
    const added: Version = { ...version, fileId, uploadTimestamp: this.#timestamp };
    bucket.versions.unshift(added);
    bucket.versions.sort((a, b) => byName(a, b) || b.uploadTimestamp - a.uploadTimestamp);
    return added;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = new URL(request.url ?? "/", "http://x").pathname;
    const call =
      path.match(/^\/b2api\/v2\/(b2_[a-z_]+)$/)?.[1] ??
      path.match(/^\/(upload|upload_part)\//)?.[1] ??
      "download";
    this.calls.push(call);
    const fault = this.#take(call);
    if (fault?.kind === "slow") await delay(fault.ms);
    if (fault?.kind === "refuse") {
      if (call.startsWith("upload")) this.#uploadUrls.delete(path.split("/")[2] ?? "");
      throw new Refusal(fault.status, fault.code, fault.message, fault.retryAfter);
    }
    if (fault?.kind === "cut" && call !== "download") return this.#breakOff(request, fault.afterBytes, true);
    if (fault?.kind === "stall" && call !== "download")
      return this.#breakOff(request, fault.afterBytes, false);
    if (fault?.kind === "pretend") {
      for await (const _ of request);
      return this.#answer(response, fault.body);
    }
    const answer =
      call === "download"
        ? await this.#download(request, response, path, fault)
        : call.startsWith("upload")
          ? await this.#upload(request, call, path)
          : await this.#control(call, request, await jsonOf(request));
    if (fault?.kind === "silent") return void request.socket.destroy();
    if (answer !== undefined) this.#answer(response, answer);
  }

  #take(call: string): B2Fault | undefined {
    const entry = this.#faults.find((fault) => fault.call === call && fault.times > 0);
    if (entry !== undefined) entry.times--;
    return entry?.fault;
  }

  async #breakOff(request: IncomingMessage, afterBytes: number, isCut: boolean): Promise<void> {
    let bytes = 0;
    await new Promise<void>((resolve) => {
      request.once("end", resolve).on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes < afterBytes) return;
        request.pause();
        resolve();
      });
    });
    if (isCut) request.socket.destroy();
  }

  #answer(response: ServerResponse, body: unknown): void {
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
  }

  /** The rest of the request is read before a refusal is sent, as a real front end does. */
  #refuse(request: IncomingMessage, response: ServerResponse, error: unknown): void {
    const refusal = error instanceof Refusal ? error : new Refusal(500, "internal_error", String(error));
    if (response.headersSent) return void request.socket.destroy();
    request.resume();
    const headers = refusal.retryAfter === undefined ? {} : { "retry-after": refusal.retryAfter };
    response
      .writeHead(refusal.status, { "content-type": "application/json", ...headers })
      .end(JSON.stringify({ status: refusal.status, code: refusal.code, message: refusal.message }));
  }

  #requireRight(request: IncomingMessage, capability: string, fileName: string | undefined): void {
    const key = this.#keyOfToken.get(request.headers.authorization ?? "");
    const isBelow = key?.namePrefix == null || fileName === undefined || fileName.startsWith(key.namePrefix);
    if (key === undefined || !key.capabilities.includes(capability) || !isBelow)
      throw new Refusal(401, "unauthorized", "unauthorized");
  }

  #requireToken(request: IncomingMessage): void {
    const token = request.headers.authorization;
    if (token === undefined) throw new Refusal(401, "missing_auth_token");
    if (!this.#tokens.has(token)) throw new Refusal(401, "bad_auth_token", "Invalid authorization token");
    if (!this.#tokens.get(token))
      throw new Refusal(401, "expired_auth_token", "Authorization token has expired");
  }

  #control(call: string, request: IncomingMessage, args: Record<string, unknown>): unknown {
    if (call === "b2_authorize_account") return this.#authorize(request);
    if (request.method !== "POST") throw new Refusal(405, "method_not_allowed");
    this.#requireToken(request);
    // a listing of more than the key's own names is refused as well
    const named =
      call === "b2_list_file_names" || call === "b2_list_file_versions" ? args.prefix : args.fileName;
    this.#requireRight(request, NEEDED[call] ?? "", named === undefined ? undefined : String(named));
    switch (call) {
      case "b2_list_buckets":
        return this.#listBuckets(args);
      case "b2_get_upload_url":
        return this.#uploadUrl("upload", this.#bucket(args), undefined);
      case "b2_get_upload_part_url":
        return this.#uploadUrl("upload_part", this.#largeFile(args).bucket, this.#largeFile(args));
      case "b2_start_large_file":
        return this.#startLarge(this.#bucket(args), args);
      case "b2_finish_large_file":
        return this.#finishLarge(this.#largeFile(args), args);
      case "b2_cancel_large_file": {
        const { fileId, fileName } = this.#largeFile(args);
        this.#large.delete(fileId);
        return { fileId, fileName };
      }
      case "b2_list_unfinished_large_files":
        return this.#listUnfinished(this.#bucket(args), args);
      case "b2_list_file_names":
        return this.#listNames(this.#bucket(args), args);
      case "b2_list_file_versions":
        return this.#listVersions(this.#bucket(args), args);
      case "b2_hide_file":
        this.hide(this.#bucket(args).bucketName, fileNameOf(args.fileName));
        return {};
      case "b2_delete_file_version":
        return this.#deleteVersion(args);
      default:
        throw new Refusal(400, "bad_request", `unknown API call ${call}`);
    }
  }

  #authorize(request: IncomingMessage): unknown {
    const given = Buffer.from(
      (request.headers.authorization ?? "").replace("Basic ", ""),
      "base64",
    ).toString();
    const [keyId = "", applicationKey = ""] = given.split(":");
    const key = this.#keys.get(keyId);
    if (key === undefined || key.applicationKey !== applicationKey)
      throw new Refusal(401, "unauthorized", "Invalid accountId or applicationKeyId");
    const authorizationToken = `4_${randomBytes(20).toString("hex")}`;
    this.#tokens.set(authorizationToken, true);
    this.#keyOfToken.set(authorizationToken, key);
    return {
      accountId: this.#accountId,
      authorizationToken,
      apiUrl: this.endpoint,
      downloadUrl: this.endpoint,
      recommendedPartSize: this.#recommendedPartSize,
      absoluteMinimumPartSize: LEAST_PART_BYTES,
      allowed: {
        bucketId: null,
        bucketName: null,
        namePrefix: key.namePrefix,
        capabilities: key.capabilities,
      },
    };
  }

  #listBuckets(args: Record<string, unknown>): unknown {
    if (args.accountId !== this.#accountId) throw new Refusal(400, "bad_request", "accountId is wrong");
    const wanted = [...this.#buckets.values()].filter(({ bucketName }) =>
      [undefined, bucketName].includes(args.bucketName as string),
    );
    return {
      buckets: wanted.map(({ bucketId, bucketName }) => ({ bucketId, bucketName, bucketType: "allPrivate" })),
    };
  }

  #bucket(args: Record<string, unknown>): Bucket {
    const bucket = [...this.#buckets.values()].find(({ bucketId }) => bucketId === args.bucketId);
    if (bucket === undefined)
      throw new Refusal(400, "bad_bucket_id", `Bucket ${String(args.bucketId)} does not exist`);
    return bucket;
  }

  #largeFile(args: Record<string, unknown>): Large {
    const large = this.#large.get(String(args.fileId));
    if (large === undefined)
      throw new Refusal(400, "bad_request", `No active upload for: ${String(args.fileId)}`);
    return large;
  }

  #uploadUrl(call: string, bucket: Bucket, large: Large | undefined): unknown {
    const pod = randomBytes(8).toString("hex");
    const token = `4_upload_${randomBytes(16).toString("hex")}`;
    this.#uploadUrls.set(pod, { token, bucket, large, isBusy: false });
    return {
      bucketId: bucket.bucketId,
      ...(large ? { fileId: large.fileId } : {}),
      uploadUrl: `${this.endpoint}/${call}/${pod}`,
      authorizationToken: token,
    };
  }

  #startLarge(bucket: Bucket, args: Record<string, unknown>): unknown {
    if (typeof args.contentType !== "string") throw new Refusal(400, "bad_request", "contentType is missing");
    const version: Version = {
      fileId: newId(),
      fileName: fileNameOf(args.fileName),
      action: "start",
      contentLength: 0,
      contentSha1: null,
      uploadTimestamp: Date.now(),
      fileInfo: (args.fileInfo ?? {}) as Record<string, string>,
      path: "",
    };
    this.#large.set(version.fileId, { ...version, bucket, parts: new Map() });
    return described(version);
  }

  async #finishLarge(large: Large, args: Record<string, unknown>): Promise<unknown> {
    const sha1s = args.partSha1Array as string[];
    const parts = sha1s.map((sha1, index) => {
      const part = large.parts.get(index + 1);
      if (part === undefined)
        throw new Refusal(400, "bad_request", `part number ${index + 1} has not been uploaded`);
      if (part.sha1 !== sha1)
        throw new Refusal(400, "bad_request", `sha1 of part ${index + 1} does not match`);
      if (part.bytes < LEAST_PART_BYTES && index + 1 < sha1s.length)
        throw new Refusal(400, "bad_request", `part number ${index + 1} is smaller than ${LEAST_PART_BYTES}`);
      return part;
    });
    if (parts.length < 2) throw new Refusal(400, "bad_request", "large files must have at least 2 parts");
    if (parts.length !== large.parts.size)
      throw new Refusal(400, "bad_request", "partSha1Array does not name every part");
    const path = join(this.#directory, large.fileId);
    const file = openSync(path, "w");
    for (const part of parts)
      for await (const chunk of createReadStream(part.path)) writeSync(file, chunk as Buffer);
    closeSync(file);
    this.#large.delete(large.fileId);
    const contentLength = parts.reduce((sum, part) => sum + part.bytes, 0);
    const { fileName, fileInfo } = large;
    return described(
      this.#add(
        large.bucket,
        { fileName, fileInfo, action: "upload", contentLength, contentSha1: "none", path },
        large.fileId,
      ),
    );
  }

  #listUnfinished(bucket: Bucket, args: Record<string, unknown>): unknown {
    const all = [...this.#large.values()]
      .filter((large) => large.bucket === bucket && large.fileName.startsWith(String(args.namePrefix ?? "")))
      .sort((a, b) => (a.fileId < b.fileId ? -1 : 1))
      .filter((large) => large.fileId >= String(args.startFileId ?? ""));
    const count = countOf(args, 100);
    return { files: all.slice(0, count).map(described), nextFileId: all[count]?.fileId ?? null };
  }

  #listNames(bucket: Bucket, args: Record<string, unknown>): unknown {
    const newest = bucket.versions.filter(
      (version, index, all) => all[index - 1]?.fileName !== version.fileName,
    );
    const visible = newest
      .filter(
        (version) => version.action === "upload" && version.fileName.startsWith(String(args.prefix ?? "")),
      )
      .filter((version) => byName(version, { fileName: String(args.startFileName ?? "") }) >= 0);
    const count = countOf(args, 1000);
    return { files: visible.slice(0, count).map(described), nextFileName: visible[count]?.fileName ?? null };
  }

  #listVersions(bucket: Bucket, args: Record<string, unknown>): unknown {
    if (args.startFileId !== undefined && !args.startFileName)
      throw new Refusal(400, "bad_request", "startFileName is missing");
    let all = bucket.versions
      .filter((version) => version.fileName.startsWith(String(args.prefix ?? "")))
      .filter((version) => byName(version, { fileName: String(args.startFileName ?? "") }) >= 0);
    const from = all.findIndex((version) => version.fileId === args.startFileId);
    if (args.startFileId !== undefined && from < 0) throw new Refusal(400, "invalid_file_id");
    all = from < 0 ? all : all.slice(from);
    const count = countOf(args, 1000);
    const next = all[count];
    return {
      files: all.slice(0, count).map(described),
      nextFileName: next?.fileName ?? null,
      nextFileId: next?.fileId ?? null,
    };
  }

  #deleteVersion(args: Record<string, unknown>): unknown {
    for (const { versions } of this.#buckets.values()) {
      const at = versions.findIndex(
        (version) => version.fileId === args.fileId && version.fileName === args.fileName,
      );
      if (at < 0) continue;
      const [gone] = versions.splice(at, 1);
      if (gone?.path) rmSync(gone.path);
      return { fileId: args.fileId, fileName: args.fileName };
    }
    throw new Refusal(
      400,
      "file_not_present",
      `File not present: ${String(args.fileName)} ${String(args.fileId)}`,
    );
  }

  /** One upload at a time through each URL, and none any more after an error. */
  async #upload(request: IncomingMessage, call: string, path: string): Promise<unknown> {
    const pod = path.split("/")[2] ?? "";
    const url = this.#uploadUrls.get(pod);
    if (url === undefined || request.headers.authorization !== url.token)
      throw new Refusal(401, "bad_auth_token");
    if (url.isBusy) throw new Refusal(400, "bad_request", "more than one upload using auth token");
    url.isBusy = true;
    try {
      const answer =
        call === "upload"
          ? await this.#uploadFile(request, url.bucket)
          : await this.#uploadPart(request, url.large);
      url.isBusy = false;
      return answer;
    } catch (error) {
      this.#uploadUrls.delete(pod);
      throw error;
    }
  }

  async #uploadFile(request: IncomingMessage, bucket: Bucket): Promise<unknown> {
    const fileName = fileNameOf(decodeURIComponent(header(request, "x-bz-file-name")));
    header(request, "content-type");
    const fileInfo = Object.fromEntries(
      Object.entries(request.headers)
        .filter(([name]) => name.startsWith("x-bz-info-"))
        .map(([name, value]) => [name.slice("x-bz-info-".length), decodeURIComponent(String(value))]),
    );
    if (Object.keys(fileInfo).length > 10)
      throw new Refusal(400, "bad_request", "too many file info headers");
    const { sha1, bytes, path } = await this.#receive(request);
    return described(
      this.#add(bucket, {
        fileName,
        fileInfo,
        action: "upload",
        contentLength: bytes,
        contentSha1: sha1,
        path,
      }),
    );
  }

  async #uploadPart(request: IncomingMessage, large: Large | undefined): Promise<unknown> {
    const partNumber = Number(header(request, "x-bz-part-number"));
    if (!Number.isInteger(partNumber) || partNumber < 1 || partNumber > 10_000)
      throw new Refusal(400, "bad_request", "bad part number");
    const received = await this.#receive(request);
    if (large === undefined || !this.#large.has(large.fileId))
      throw new Refusal(400, "bad_request", "No active upload");
    large.parts.set(partNumber, received);
    return { fileId: large.fileId, partNumber, contentLength: received.bytes, contentSha1: received.sha1 };
  }

  async #receive(request: IncomingMessage): Promise<{ sha1: string; bytes: number; path: string }> {
    const expected = header(request, "x-bz-content-sha1");
    const length = Number(header(request, "content-length"));
    const hash = createHash("sha1");
    const path = join(this.#directory, randomBytes(12).toString("hex"));
    const file = openSync(`${path}.receiving`, "w");
    let bytes = 0;
    try {
      for await (const chunk of request) {
        hash.update(chunk as Buffer);
        bytes += writeSync(file, chunk as Buffer);
      }
    } finally {
      closeSync(file);
    }
    const sha1 = hash.digest("hex");
    if (bytes !== length) throw new Refusal(400, "bad_request", "body is not as long as Content-Length");
    if (sha1 !== expected) throw new Refusal(400, "bad_request", "Sha1 did not match data received");
    renameSync(`${path}.receiving`, path);
    return { sha1, bytes, path };
  }

  async #download(
    request: IncomingMessage,
    response: ServerResponse,
    path: string,
    fault: B2Fault | undefined,
  ): Promise<undefined> {
    this.#requireToken(request);
    const [, , bucketName = "", ...name] = path.split("/");
    const bucket = this.#buckets.get(decodeURIComponent(bucketName));
    const fileName = name.map(decodeURIComponent).join("/");
    this.#requireRight(request, "readFiles", fileName);
    const version = bucket?.versions.find((candidate) => candidate.fileName === fileName);
    if (!path.startsWith("/file/") || version?.action !== "upload")
      throw new Refusal(404, "not_found", `File does not exist: ${fileName}`);
    const size = statSync(version.path).size;
    const range = request.headers.range?.match(/^bytes=(\d+)-(\d*)$/);
    const start = Number(range?.[1] ?? 0);
    const end = Math.min(size, range?.[2] ? Number(range[2]) + 1 : size);
    if (range && start >= size) throw new Refusal(416, "range_not_satisfiable");
    response.writeHead(range ? 206 : 200, {
      "content-length": end - start,
      "content-type": "application/octet-stream",
      "x-bz-file-id": version.fileId,
      "x-bz-file-name": encodeURIComponent(fileName),
      "x-bz-content-sha1": version.contentSha1 ?? "none",
      ...(range ? { "content-range": `bytes ${start}-${end - 1}/${size}` } : {}),
    });
    if (fault?.kind === "cut" || fault?.kind === "stall") {
      response.flushHeaders();
      const until = Math.min(end, start + fault.afterBytes);
      if (until > start)
        for await (const chunk of createReadStream(version.path, { start, end: until - 1 }))
          response.write(chunk);
      await delay(20);
      if (fault.kind === "cut") request.socket.destroy();
      return undefined;
    }
    if (start === end) response.end();
    else await pipeline(createReadStream(version.path, { start, end: end - 1 }), response);
    return undefined;
  }
}

const described = ({ path: _, ...version }: Version): unknown => {
  const { fileId, fileName, action, contentLength, contentSha1, uploadTimestamp, fileInfo } = version;
  return {
    fileId,
    fileName,
    action,
    contentLength,
    contentSha1,
    uploadTimestamp,
    fileInfo,
    contentType: "application/octet-stream",
  };
};

function header(request: IncomingMessage, name: string): string {
  const value = request.headers[name];
  if (typeof value !== "string" || value === "")
    throw new Refusal(400, "bad_request", `header ${name} is missing`);
  return value;
}

function fileNameOf(value: unknown): string {
  if (typeof value === "string" && FILE_NAME.test(value)) return value;
  throw new Refusal(400, "bad_request", `File name is not allowed: ${String(value)}`);
}

function countOf(args: Record<string, unknown>, most: number): number {
  const count = args.maxFileCount === undefined ? 100 : Number(args.maxFileCount);
  if (count >= 1 && count <= most) return count;
  throw new Refusal(400, "out_of_range", `maxFileCount out of range: ${String(args.maxFileCount)}`);
}

async function jsonOf(request: IncomingMessage): Promise<Record<string, unknown>> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString("utf8");
  if (text === "") return {};
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    throw new Refusal(400, "bad_json");
  }
}

/** As a process of its own: prints what a client needs to know as one line of JSON; arguments are the buckets to make. */
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const server = await startB2Server();
  for (const bucket of process.argv.slice(2)) server.createBucket(bucket);
  console.log(
    JSON.stringify({ endpoint: server.endpoint, keyId: server.keyId, applicationKey: server.applicationKey }),
  );
  process.once("SIGTERM", () => void server.stop().then(() => process.exit(0)));
}
