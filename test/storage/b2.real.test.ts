import { createHash } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { B2StorageConfig } from "../../src/domain/config.js";
import { Secret } from "../../src/domain/secret.js";
import { type OpenOptions, openBare } from "../../src/storage/open.js";
import { bytesBody, type ObjectBody, openStorage, type Storage } from "../../src/storage/storages.js";
import { systemClock } from "../../src/sys/clock.js";
import { type B2Server, startB2Server } from "../support/b2Server.js";
import { b2Config, collect } from "./configs.js";

const MB = 1_000_000;
let b2: B2Server;
let opened: Storage[] = [];

beforeEach(async () => {
  b2 = await startB2Server({ recommendedPartSize: 5 * MB });
  b2.createBucket("shop");
});
afterEach(async () => {
  await Promise.all(opened.map((storage) => storage.close()));
  opened = [];
  await b2.stop();
});

const options: OpenOptions = {
  clock: systemClock,
  pageSize: 3,
  idleMs: 1000,
  retry: { budgetMs: 6000, firstPauseMs: 30, longestPauseMs: 300 },
};
const open = async (
  form: typeof openStorage,
  changes: Partial<B2StorageConfig> = {},
  more: Partial<OpenOptions> = {},
): Promise<Storage> => {
  const storage = await form({ ...b2Config(b2, "shop"), ...changes }, { ...options, ...more });
  opened.push(storage);
  return storage;
};
/** The adapter alone: shows each failure. */
const bare = (changes?: Partial<B2StorageConfig>): Promise<Storage> => open(openBare, changes);
/** As jbackup uses it. */
const whole = (more?: Partial<OpenOptions>): Promise<Storage> => open(openStorage, {}, more);
const text = (content: string): ObjectBody => bytesBody([Buffer.from(content)]);
const noise = (bytes: number): Buffer =>
  Buffer.from(Array.from({ length: bytes }, (_, at) => (at * at + (at >> 8)) & 255));
const read = async (storage: Storage, key: string): Promise<Buffer> =>
  Buffer.concat(await collect(storage.get(key)));
const keys = async (storage: Storage): Promise<string[]> =>
  (await collect(storage.list(""))).map(({ key }) => key);
const times = (call: string): number => b2.calls.filter((name) => name === call).length;
const versions = (key: string): string[] =>
  b2.versionsOf("shop", `prod/${key}`).map((version) => version.action);

describe("B2 credentials", () => {
  test("are used once for many operations, and renewed once when the token expires", async () => {
    const storage = await bare();
    await storage.put("a", text("x"));
    b2.expireTokens();
    await Promise.all(["b", "c", "d", "e"].map((key) => storage.stat(key)));
    expect((await read(storage, "a")).toString()).toBe("x");
    b2.expireTokens();
    expect((await read(storage, "a")).toString()).toBe("x");
    b2.expireTokens();
    expect(await storage.sweep("", 0)).toBe(0);
    expect(times("b2_authorize_account")).toBe(4);
  });

  test("that do not help after one renewal are denied", async () => {
    const storage = await whole();
    b2.faults.next(
      "b2_list_file_names",
      { kind: "refuse", status: 401, code: "expired_auth_token", message: "expired" },
      9,
    );
    await expect(storage.stat("a")).rejects.toMatchObject({
      code: "storage_denied",
      message: "storage b2: stat a failed: HTTP 401 expired_auth_token: expired",
    });
    expect(times("b2_authorize_account")).toBe(2);
    expect(times("b2_list_file_names")).toBe(2);
  });

  test("that are wrong are denied without another try", async () => {
    const storage = await open(openStorage, { applicationKey: async () => new Secret("wrong") });
    await expect(storage.put("a", text("x"))).rejects.toMatchObject({
      code: "storage_denied",
      message: "storage b2: put a failed: HTTP 401 unauthorized: Invalid accountId or applicationKeyId",
    });
    expect(b2.calls).toEqual(["b2_authorize_account"]);
  });

  test("never stand in an error", async () => {
    b2.faults.next("b2_list_file_names", { kind: "refuse", status: 403, code: "access_denied" });
    const error = await (await bare()).stat("a").catch((failure: unknown) => failure);
    const shown = (await import("node:util")).inspect(error, { depth: 9 });
    expect(shown).not.toContain(b2.applicationKey);
    expect(shown).not.toContain("Authorization");
  });

  test("for a bucket that is not there find no storage", async () => {
    const storage = await bare({ bucket: "nowhere" });
    const expected = {
      code: "not_found",
      exitCode: 10,
      message: "storage b2: reach failed: no such bucket: nowhere",
    };
    await expect(storage.stat("a")).rejects.toMatchObject(expected);
    await expect(keys(storage)).rejects.toMatchObject(expected);
  });

  test("whose cap is reached are denied, and told where to raise it", async () => {
    b2.faults.next("upload", {
      kind: "refuse",
      status: 403,
      code: "cap_exceeded",
      message: "Cannot upload, storage cap exceeded",
    });
    await expect((await whole()).put("a", text("x"))).rejects.toMatchObject({
      code: "storage_denied",
      message: "storage b2: put a failed: HTTP 403 cap_exceeded: Cannot upload, storage cap exceeded",
      hint: expect.stringContaining("Caps & Alerts"),
    });
    expect(times("upload")).toBe(1);
  });
});

describe("a B2 upload", () => {
  test("keeps its URL for the next one", async () => {
    const storage = await bare();
    for (const key of ["a", "b", "c"]) await storage.put(key, text(key));
    expect(times("b2_get_upload_url")).toBe(1);
  });

  test.each([
    ["the pod is full", { kind: "refuse", status: 503, code: "service_unavailable" }],
    ["its token has expired", { kind: "refuse", status: 401, code: "expired_auth_token" }],
    ["the connection is cut", { kind: "cut", afterBytes: 70_000 }],
    ["the connection stalls", { kind: "stall", afterBytes: 70_000 }],
    [
      "the bytes arrive damaged",
      { kind: "refuse", status: 400, code: "bad_request", message: "Sha1 did not match data received" },
    ],
  ] as const)("gets a fresh URL at once when %s", async (_, fault) => {
    b2.faults.next("upload", fault);
    const content = noise(3 * MB);
    const storage = await bare();
    await storage.put("a", bytesBody([content]));
    expect([times("b2_get_upload_url"), times("upload")]).toEqual([2, 2]);
    expect(content.equals(await read(storage, "a"))).toBe(true);
    expect(versions("a")).toEqual(["upload"]);
  });

  test("through a URL that died meanwhile works", async () => {
    const storage = await bare();
    await storage.put("a", text("x"));
    b2.expireUploadUrls();
    await storage.put("b", text("y"));
    expect(await keys(storage)).toEqual(["a", "b"]);
  });

  test.each([429, 503])("answered with %i pauses as long as told", async (status) => {
    const fault = { kind: "refuse", status, code: "too_many_requests", retryAfter: "1" } as const;
    b2.faults.next("upload", fault);
    await expect((await bare()).put("a", text("x"))).rejects.toMatchObject({
      code: "storage_unavailable",
      details: { retryAfterMs: 1000 },
    });
    b2.faults.next("upload", fault);
    const startedMs = systemClock.monotonicMs();
    await (await whole()).put("a", text("x"));
    expect(systemClock.monotonicMs() - startedMs).toBeGreaterThan(990);
  });

  test("whose answer is lost is not stored twice", async () => {
    b2.faults.next("upload", { kind: "silent" });
    await (await whole()).put("a", text("x"));
    expect(versions("a")).toEqual(["upload"]);
  });

  test("that was acknowledged but is absent is a failure", async () => {
    const contentSha1 = createHash("sha1").update("x").digest("hex");
    b2.faults.next("upload", { kind: "pretend", body: { fileId: "4_z0", contentLength: 1, contentSha1 } });
    await expect((await bare()).put("a", text("x"))).rejects.toThrow(
      "storage b2: put a failed: B2 acknowledged the object but does not have it",
    );
  });

  test("acknowledged with another digest is a failure", async () => {
    b2.faults.next("upload", {
      kind: "pretend",
      body: { fileId: "4_z0", contentLength: 1, contentSha1: "0" },
    });
    await expect((await bare()).put("a", text("x"))).rejects.toThrow(
      "B2 acknowledged other bytes than were sent",
    );
  });
});

describe("a B2 upload in parts", () => {
  const content = noise(12 * MB);

  test("sends a failed part through a fresh URL, and the others once", async () => {
    b2.faults.next("upload_part", { kind: "refuse", status: 503, code: "service_unavailable" });
    const storage = await bare();
    await storage.put("a", bytesBody([content]));
    expect(times("upload_part")).toBe(4);
    expect(content.equals(await read(storage, "a"))).toBe(true);
    await storage.put("a", bytesBody([content]));
    expect(times("b2_start_large_file")).toBe(1);
  });

  test("is cancelled when a part cannot be stored", async () => {
    b2.faults.next("upload_part", { kind: "refuse", status: 500, code: "internal_error" }, 99);
    await expect((await bare()).put("a", bytesBody([content]))).rejects.toMatchObject({
      code: "storage_unavailable",
    });
    expect(b2.unfinished("shop")).toEqual([]);
    expect(await keys(await bare())).toEqual([]);
  });

  test("that a killed run left is invisible, and sweep ends it", async () => {
    b2.faults.next("b2_finish_large_file", { kind: "refuse", status: 500, code: "internal_error" });
    b2.faults.next("b2_cancel_large_file", { kind: "refuse", status: 500, code: "internal_error" });
    await expect((await bare()).put("folder/a", bytesBody([content]))).rejects.toThrow();
    expect(b2.unfinished("shop")).toEqual(["prod/folder/a"]);
    const storage = await bare();
    expect(await keys(storage)).toEqual([]);
    expect(await storage.stat("folder/a")).toBeUndefined();
    const later = { ...systemClock, now: () => new Date(Date.now() + 7_200_000) };
    const sweeper = await open(openBare, {}, { clock: later });
    expect(await storage.sweep("folder/", 3_600_000)).toBe(0);
    expect(await sweeper.sweep("elsewhere/", 3_600_000)).toBe(0);
    expect(await sweeper.sweep("folder/", 3_600_000)).toBe(1);
    expect(b2.unfinished("shop")).toEqual([]);
  });

  test("whose last answer is lost counts once it is found there", async () => {
    b2.faults.next("b2_finish_large_file", { kind: "silent" });
    await (await whole()).put("a", bytesBody([content]));
    expect(versions("a")).toEqual(["upload"]);
    expect(times("b2_start_large_file")).toBe(1);
  });
});

describe("reading from B2", () => {
  test.each(["cut", "stall"] as const)("goes on after a %s", async (kind) => {
    const content = noise(3 * MB);
    const storage = await bare();
    await storage.put("a", bytesBody([content]));
    b2.faults.next("download", { kind, afterBytes: MB }, 2);
    expect(content.equals(await read(storage, "a"))).toBe(true);
    expect(times("download")).toBe(3);
  });

  test("fails when no byte comes any more", async () => {
    const storage = await bare();
    await storage.put("a", text("0123456789"));
    b2.faults.next("download", { kind: "cut", afterBytes: 0 }, 99);
    await expect(read(storage, "a")).rejects.toThrow(
      "storage b2: get a failed: the connection broke off 10 bytes before the end",
    );
  });

  test("never lets a listing end early", async () => {
    const storage = await whole();
    const names = ["a", "b", "c", "d", "e", "f", "g"];
    await Promise.all(names.map((name) => storage.put(name, text(name))));
    const adapter = await bare();
    const listing = adapter.list("")[Symbol.asyncIterator]();
    for (let seen = 0; seen < 3; seen++) await listing.next();
    b2.faults.next("b2_list_file_names", { kind: "refuse", status: 503, code: "service_unavailable" });
    await expect(listing.next()).rejects.toMatchObject({ code: "storage_unavailable" });
    const again = storage.list("")[Symbol.asyncIterator]();
    const keysSeen: string[] = [];
    for (;;) {
      if (keysSeen.length === 3) b2.faults.next("b2_list_file_names", { kind: "cut", afterBytes: 0 });
      const next = await again.next();
      if (next.done) break;
      keysSeen.push(next.value.key);
    }
    expect(keysSeen).toEqual(names);
  });

  test("takes something else than a listing for a failure", async () => {
    b2.faults.next("b2_list_file_names", { kind: "pretend", body: {} });
    await expect(keys(await bare())).rejects.toThrow("storage b2: list failed: the answer is not a listing");
  });

  test("fails while B2 is down, or not to be found", async () => {
    const storage = await bare({ endpoint: "http://127.0.0.1:1" });
    await expect(storage.stat("a")).rejects.toMatchObject({
      code: "storage_unavailable",
      message: expect.stringContaining("ECONNREFUSED"),
    });
    await expect((await bare({ endpoint: "http://storage.invalid" })).stat("a")).rejects.toMatchObject({
      code: "storage_unavailable",
    });
    await expect(
      (await bare({ endpoint: b2.endpoint.replace("http", "https") })).stat("a"),
    ).rejects.toMatchObject({
      code: "storage_unavailable",
    });
  });

  test("is given up by the watchdog when B2 is silent", async () => {
    b2.faults.next("b2_list_file_names", { kind: "slow", ms: 3000 });
    await expect((await whole({ retry: { budgetMs: 0 } })).stat("a")).rejects.toMatchObject({
      code: "storage_unavailable",
    });
  });
});

describe("versions in B2", () => {
  test("are one after a replacement", async () => {
    const storage = await bare();
    await storage.put("a", text("one"));
    await storage.put("a", text("two"), { replace: true });
    expect(versions("a")).toEqual(["upload"]);
    expect((await read(storage, "a")).toString()).toBe("two");
  });

  test("are all removed by a delete, hide markers too", async () => {
    const storage = await bare();
    for (const content of ["one", "two", "three", "four"]) {
      await storage.put("a", text(content));
      b2.hide("shop", "prod/a");
      expect(await storage.stat("a")).toBeUndefined();
    }
    await storage.put("ab", text("neighbour"));
    expect(versions("a").length).toBe(8);
    await storage.delete("a");
    expect(versions("a")).toEqual([]);
    expect(await keys(storage)).toEqual(["ab"]);
  });
});
