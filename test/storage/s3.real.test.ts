import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import {
  CreateMultipartUploadCommand,
  ListMultipartUploadsCommand,
  S3Client,
  UploadPartCommand,
} from "@aws-sdk/client-s3";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { S3StorageConfig } from "../../src/domain/config.js";
import { Secret } from "../../src/domain/secret.js";
import { type OpenOptions, openBare } from "../../src/storage/open.js";
import {
  bytesBody,
  claimSite,
  type ObjectBody,
  openStorage,
  type Storage,
} from "../../src/storage/storages.js";
import { systemClock } from "../../src/sys/clock.js";
import { type FaultProxy, startFaultProxy } from "../support/faultProxy.js";
import { type Swift, startSwift } from "../support/swift.js";
import { collect, s3Config } from "./configs.js";

const MIB = 1 << 20;
let swift: Swift;
let proxy: FaultProxy;
let client: S3Client;
let opened: Storage[] = [];
let folder = "";
let count = 0;

beforeAll(async () => {
  swift = await startSwift();
  await swift.createBucket("shop");
  client = new S3Client({
    endpoint: swift.endpoint,
    region: swift.region,
    forcePathStyle: true,
    credentials: { accessKeyId: swift.accessKeyId, secretAccessKey: swift.secretAccessKey },
  });
});
afterAll(async () => {
  client.destroy();
  await swift.stop();
});
beforeEach(async () => {
  proxy = await startFaultProxy(swift.endpoint);
  folder = `test-${++count}/`;
});
afterEach(async () => {
  await Promise.all(opened.map((storage) => storage.close()));
  opened = [];
  await proxy.stop();
});

const options: OpenOptions = {
  clock: systemClock,
  partBytes: 5 * MIB,
  pageSize: 3,
  idleMs: 1200,
  retry: { budgetMs: 6000, firstPauseMs: 50, longestPauseMs: 400 },
};
const config = (changes: Partial<S3StorageConfig> = {}): S3StorageConfig => ({
  ...s3Config({ ...swift, endpoint: proxy.endpoint }, "shop"),
  ...changes,
});
const keep = (storage: Storage): Storage => {
  opened.push(storage);
  return storage;
};
/** The adapter alone: shows each failure. */
const bare = async (changes: Partial<S3StorageConfig> = {}): Promise<Storage> =>
  keep(await openBare(config(changes), options));
/** As jbackup uses it. */
const whole = async (more: Partial<OpenOptions> = {}): Promise<Storage> =>
  keep(await openStorage(config(), { ...options, ...more }));
const text = (content: string): ObjectBody => bytesBody([Buffer.from(content)]);
const noise = (bytes: number): Buffer =>
  Buffer.from(Array.from({ length: bytes }, (_, at) => (at * at + (at >> 8)) & 255));
const read = async (storage: Storage, key: string): Promise<Buffer> =>
  Buffer.concat(await collect(storage.get(key)));
const keys = async (storage: Storage, prefix = folder): Promise<string[]> =>
  (await collect(storage.list(prefix))).map(({ key }) => key);
const uploads = async (): Promise<number> =>
  (await client.send(new ListMultipartUploadsCommand({ Bucket: "shop", Prefix: `prod/${folder}` }))).Uploads
    ?.length ?? 0;

describe("an S3 storage that is", () => {
  test("down is unavailable, and used again when it is back", async () => {
    const storage = await whole();
    proxy.behave({ kind: "refuse" });
    await expect((await bare()).put(`${folder}a`, text("x"))).rejects.toMatchObject({
      code: "storage_unavailable",
    });
    setTimeout(() => proxy.behave({ kind: "pass" }), 600);
    await storage.put(`${folder}a`, text("x"));
    expect((await read(storage, `${folder}a`)).toString()).toBe("x");
  });

  test("down for longer than the budget fails with the number of attempts", async () => {
    proxy.behave({ kind: "refuse" });
    const storage = await whole({ retry: { budgetMs: 500, firstPauseMs: 50 } });
    await expect(storage.stat("a")).rejects.toThrow(/^storage r2: stat a failed: .*\(\d attempts in \d s\)$/);
  });

  test("a black hole is given up by the watchdog", async () => {
    proxy.behave({ kind: "blackHole" });
    const storage = await whole({ retry: { budgetMs: 0 } });
    await expect(storage.put(`${folder}a`, text("x"))).rejects.toMatchObject({ code: "storage_unavailable" });
    await expect(keys(storage)).rejects.toMatchObject({ code: "storage_unavailable" });
  });

  test("slow is waited for as long as bytes move", async () => {
    proxy.behave({ kind: "delay", ms: 500 });
    const storage = await whole({ retry: { budgetMs: 0 }, idleMs: 3000 });
    await storage.put(`${folder}a`, text("x"));
    expect((await read(storage, `${folder}a`)).toString()).toBe("x");
  });

  test("stalled in the middle of an upload gets it again", async () => {
    const content = noise(3 * MIB);
    proxy.behave({ kind: "stall", direction: "up", afterBytes: MIB, times: 1 });
    const storage = await whole();
    await storage.put(`${folder}a`, bytesBody([content]));
    proxy.behave({ kind: "pass" });
    expect(content.equals(await read(storage, `${folder}a`))).toBe(true);
  });

  test.each(["stall", "cut"] as const)(
    "read through a connection that does %s is read on from there",
    async (kind) => {
      const content = noise(3 * MIB);
      const storage = await whole();
      await storage.put(`${folder}a`, bytesBody([content]));
      proxy.behave({ kind, direction: "down", afterBytes: MIB, times: 2 });
      expect(content.equals(await read(storage, `${folder}a`))).toBe(true);
      // a busy machine may make it ask once more, but never again for what it has
      const [first, second = 0, third = 0, ...more] = proxy.readsFrom;
      expect(first).toBe(0);
      expect(second).toBeGreaterThan(MIB / 2);
      expect(third).toBeGreaterThan(second + MIB / 2);
      for (const again of more) expect(again).toBeGreaterThanOrEqual(third);
    },
  );

  test("cut in the middle of an upload leaves nothing visible", async () => {
    proxy.behave({ kind: "cut", direction: "up", afterBytes: 3 * MIB });
    await expect((await bare()).put(`${folder}a`, bytesBody([noise(11 * MIB)]))).rejects.toMatchObject({
      code: "storage_unavailable",
    });
    proxy.behave({ kind: "pass" });
    expect(await keys(await bare())).toEqual([]);
    expect(await uploads()).toBe(0);
  });

  test.each([
    [503, "SlowDown"],
    [429, "TooManyRequests"],
    [500, "InternalError"],
  ])("answering %i asks for a pause", async (status, code) => {
    const answer = {
      status,
      headers: { "retry-after": "1" },
      body: `<Error><Code>${code}</Code><Message>later</Message></Error>`,
    };
    proxy.answerNext(1, { ...answer, when: /^PUT/ });
    await expect((await bare()).put(`${folder}a`, text("x"))).rejects.toMatchObject({
      code: "storage_unavailable",
      message: `storage r2: put ${folder}a failed: HTTP ${status} ${code}: later`,
      details: { storage: "r2", retryAfterMs: 1000 },
    });
    proxy.answerNext(1, { ...answer, when: /^PUT/ });
    const startedMs = systemClock.monotonicMs();
    await (await whole()).put(`${folder}a`, text("x"));
    expect(systemClock.monotonicMs() - startedMs).toBeGreaterThan(990);
  });

  test("not found by name is unavailable", async () => {
    await expect((await bare({ endpoint: "http://storage.invalid" })).stat("a")).rejects.toMatchObject({
      code: "storage_unavailable",
    });
  });

  test("not who its certificate says is unavailable", async () => {
    const directory = mkdtempSync(join(tmpdir(), "jbackup-tls-"));
    const [key, cert] = ["key.pem", "cert.pem"].map((name) => join(directory, name)) as [string, string];
    const request = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost".split(" ");
    execFileSync("openssl", [...request, "-keyout", key, "-out", cert], { stdio: "ignore" });
    const server = createServer({ key: readFileSync(key), cert: readFileSync(cert) });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const storage = await bare({ endpoint: `https://127.0.0.1:${(server.address() as AddressInfo).port}` });
    await expect(storage.stat("a")).rejects.toMatchObject({
      code: "storage_unavailable",
      message: expect.stringContaining("self-signed"),
    });
    server.close();
    rmSync(directory, { recursive: true });
    await expect(
      (await bare({ endpoint: proxy.endpoint.replace("http", "https") })).stat("a"),
    ).rejects.toMatchObject({
      code: "storage_unavailable",
    });
  });
});

describe("an S3 storage that refuses", () => {
  test("the credentials is not asked again", async () => {
    const wrong = { ...config(), secretAccessKey: async () => new Secret("wrong") };
    const storage = keep(await openStorage(wrong, options));
    await expect(storage.put(`${folder}a`, text("x"))).rejects.toMatchObject({
      code: "storage_denied",
      message: expect.stringContaining(`storage r2: put ${folder}a failed: HTTP 403`),
      hint: expect.stringContaining("credentials"),
    });
    expect(proxy.requests.length).toBe(1);
    await expect(keys(storage)).rejects.toThrow("SignatureDoesNotMatch");
    expect(proxy.requests.length).toBe(2);
  });

  test("an unknown or expired key is denied", async () => {
    const unknown = async () => new Secret("nobody:knows");
    await expect(keys(await bare({ accessKeyId: unknown }))).rejects.toMatchObject({
      code: "storage_denied",
    });
    proxy.answerNext(1, {
      status: 400,
      body: "<Error><Code>ExpiredToken</Code><Message>gone</Message></Error>",
    });
    await expect(keys(await bare())).rejects.toMatchObject({ code: "storage_denied" });
    proxy.answerNext(1, { status: 401 });
    await expect((await bare()).stat("a")).rejects.toMatchObject({ code: "storage_denied" });
  });

  test("for want of space is full", async () => {
    proxy.answerNext(1, { status: 507, when: /^PUT/ });
    await expect((await bare()).put(`${folder}a`, text("x"))).rejects.toMatchObject({ code: "storage_full" });
  });

  test("because there is no such bucket never reads as an empty storage", async () => {
    const expected = { code: "not_found", exitCode: 10, message: expect.stringContaining("no such bucket") };
    const storage = await bare({ bucket: "nowhere" });
    await expect(storage.stat("a")).rejects.toMatchObject(expected);
    await expect(read(storage, "a")).rejects.toMatchObject(expected);
    await expect(keys(storage)).rejects.toMatchObject(expected);
    await expect(storage.put("a", text("x"))).rejects.toMatchObject(expected);
    await expect(claimSite(storage, { site: "shop", createdAt: "" })).rejects.toMatchObject(expected);
  });
});

describe("an S3 storage that does not tell the truth:", () => {
  test("an error inside a success is a failure", async () => {
    const body =
      '<?xml version="1.0"?><Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>';
    proxy.answerNext(1, { status: 200, body, when: /^POST .*uploadId=/ });
    const content = noise(6 * MIB);
    await expect((await bare()).put(`${folder}a`, bytesBody([content]))).rejects.toMatchObject({
      code: "storage_unavailable",
    });
    expect(await keys(await bare())).toEqual([]);
    expect(await uploads()).toBe(0);
    proxy.answerNext(1, { status: 200, body, when: /^POST .*uploadId=/ });
    await (await whole()).put(`${folder}a`, bytesBody([content]));
    expect(content.equals(await read(await bare(), `${folder}a`))).toBe(true);
  });

  test("an object that was acknowledged but is absent is a failure", async () => {
    const answer = { status: 200, headers: { etag: '"0123"' }, when: /^PUT/ };
    proxy.answerNext(1, answer);
    await expect((await bare()).put(`${folder}a`, text("x"))).rejects.toThrow(
      `storage r2: put ${folder}a failed: the server acknowledged the object but does not have it`,
    );
    proxy.answerNext(1, answer);
    await (await whole()).put(`${folder}a`, text("x"));
    expect(await keys(await bare())).toEqual([`${folder}a`]);
  });

  test("something else than a listing is not an empty one", async () => {
    for (const body of ["", "<html>sign in</html>", "<ListBucketResult></ListBucketResult>"]) {
      proxy.answerNext(1, { status: 200, headers: { "content-type": "text/html" }, body });
      await expect(keys(await bare()), body).rejects.toThrow();
    }
  });

  test("a listing that fails half-way throws, and is finished by the retries", async () => {
    const storage = await whole();
    const names = ["a", "b", "c", "d", "e", "f", "g"].map((name) => folder + name);
    await Promise.all(names.map((name) => storage.put(name, text(name))));
    const fail = { status: 503, when: /continuation-token/ };
    proxy.answerNext(1, fail);
    await expect(keys(await bare())).rejects.toMatchObject({ code: "storage_unavailable" });
    proxy.answerNext(1, fail);
    expect(await keys(storage)).toEqual(names);
  });

  test("a byte that was flipped on the way up is found out", async () => {
    const content = noise(300_000);
    const [adapter, storage] = [await bare(), await whole()];
    // The first put finds out that this server takes no conditions; from then on there is one request to a put.
    await Promise.all([adapter.put(`${folder}first`, text("x")), storage.put(`${folder}other`, text("x"))]);
    proxy.behave({ kind: "flip", direction: "up", atByte: 150_000, times: 1 });
    await delay(50);
    await expect(adapter.put(`${folder}a`, bytesBody([content]))).rejects.toMatchObject({
      code: "storage_unavailable",
      message: expect.stringContaining("HTTP 400 BadDigest"),
    });
    proxy.behave({ kind: "flip", direction: "up", atByte: 150_000, times: 1 });
    proxy.requests.length = 0;
    await storage.put(`${folder}a`, bytesBody([content]));
    expect(proxy.requests.filter((line) => line.startsWith("PUT")).length).toBe(2);
    expect(content.equals(await read(await bare(), `${folder}a`))).toBe(true);
  });

  test("a flipped byte in one part too", async () => {
    const content = noise(11 * MIB);
    proxy.behave({ kind: "flip", direction: "up", atByte: 2 * MIB, times: 1 });
    await (await whole()).put(`${folder}a`, bytesBody([content]));
    expect(content.equals(await read(await bare(), `${folder}a`))).toBe(true);
  });

  test("an object that is replaced while it is read is not mixed with the new one", async () => {
    const other = keep(await openBare(s3Config(swift, "shop"), options));
    await other.put(`${folder}a`, bytesBody([noise(2 * MIB)]));
    proxy.behave({ kind: "cut", direction: "down", afterBytes: MIB, times: 1 });
    const reading = (await bare()).get(`${folder}a`)[Symbol.asyncIterator]();
    await reading.next();
    await other.put(`${folder}a`, bytesBody([Buffer.alloc(2 * MIB)]), { replace: true });
    const rest = async (): Promise<void> => {
      while (!(await reading.next()).done);
    };
    await expect(rest()).rejects.toThrow("the object was replaced while it was being read");
  });
});

describe("an S3 storage", () => {
  test("that knows no conditions is written to without, after a look", async () => {
    proxy.answerNext(1, {
      status: 501,
      body: "<Error><Code>NotImplemented</Code><Message>no</Message></Error>",
      when: /^PUT/,
    });
    const storage = await bare();
    await storage.put(`${folder}a`, text("x"));
    await expect(storage.put(`${folder}a`, text("y"))).rejects.toMatchObject({ code: "object_exists" });
  });

  test("shows nothing of an upload that a killed run left, and sweep ends it", async () => {
    const upload = { Bucket: "shop", Key: `prod/${folder}big` };
    const { UploadId } = await client.send(new CreateMultipartUploadCommand(upload));
    await client.send(new UploadPartCommand({ ...upload, UploadId, PartNumber: 1, Body: noise(5 * MIB) }));
    const storage = await bare();
    expect(await keys(storage)).toEqual([]);
    expect(await storage.stat(`${folder}big`)).toBeUndefined();
    expect(await storage.sweep(folder, 3_600_000)).toBe(0);
    const later = { ...systemClock, now: () => new Date(Date.now() + 7_200_000) };
    const sweeper = keep(await openBare(config(), { ...options, clock: later }));
    expect(await sweeper.sweep("elsewhere/", 3_600_000)).toBe(0);
    expect(await uploads()).toBe(1);
    expect(await sweeper.sweep(folder, 3_600_000)).toBe(1);
    expect(await uploads()).toBe(0);
  });

  test("takes the parts of an aborted upload away", async () => {
    const abort = new AbortController();
    const body = bytesBody([noise(11 * MIB)]);
    const storage = await bare();
    proxy.behave({ kind: "stall", direction: "up", afterBytes: 2 * MIB });
    setTimeout(() => {
      proxy.behave({ kind: "pass" });
      abort.abort(new Error("terminated"));
    }, 400);
    await expect(storage.put(`${folder}a`, body, { signal: abort.signal })).rejects.toThrow();
    expect(await uploads()).toBe(0);
    expect(await keys(storage)).toEqual([]);
  });

  test("keeps each configured prefix to itself", async () => {
    const other = keep(await openBare(config({ prefix: "/elsewhere/" }), options));
    const storage = await bare();
    await storage.put(`${folder}a`, text("ours"));
    expect(await keys(other)).toEqual([]);
    await other.put(`${folder}a`, text("theirs"));
    expect((await read(storage, `${folder}a`)).toString()).toBe("ours");
    expect(other.location).toBe(`shop/elsewhere/ at ${new URL(proxy.endpoint).host}`);
  });
});
