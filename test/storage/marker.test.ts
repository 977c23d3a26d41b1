import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LocalStorage } from "../../src/storage/local.js";
import {
  bytesBody,
  claimSite,
  fileBody,
  readAll,
  readSite,
  requireSite,
  SITE_MARKER,
  type Storage,
} from "../../src/storage/storages.js";
import { systemClock } from "../../src/sys/clock.js";
import { collect } from "./configs.js";

let directory: string;
let storage: Storage;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "jbackup-marker-"));
  storage = new LocalStorage({ kind: "local", name: "local", path: join(directory, "root") }, systemClock);
});
afterEach(() => rmSync(directory, { recursive: true }));

const claim = { site: "shop-prod", createdAt: "2026-11-20T02:00:00.000Z", systemId: "7301" };

describe("the site marker", () => {
  test("is written by the first claim and agreed to by the next", async () => {
    expect(await readSite(storage)).toBeUndefined();
    const expected = { format: 1, ...claim };
    expect(await claimSite(storage, claim)).toEqual(expected);
    expect(await claimSite(storage, { site: "shop-prod", createdAt: "2026-11-21T02:00:00.000Z" })).toEqual(
      expected,
    );
    expect(await requireSite(storage, "shop-prod")).toEqual(expected);
    expect(JSON.parse(readFileSync(join(directory, "root", SITE_MARKER), "utf8"))).toEqual(expected);
  });

  test("refuses another site, and writes nothing", async () => {
    await claimSite(storage, claim);
    await expect(claimSite(storage, { ...claim, site: "other" })).rejects.toMatchObject({
      exitCode: 10,
      code: "repository_foreign",
      message: `storage local at ${join(directory, "root")} belongs to site shop-prod, not to other`,
    });
    await expect(requireSite(storage, "other")).rejects.toMatchObject({ code: "repository_foreign" });
    expect(readdirSync(join(directory, "root"))).toEqual([SITE_MARKER]);
    expect((await readSite(storage))?.site).toBe("shop-prod");
  });

  test("goes to one of two sites that claim at the same moment", async () => {
    const sites = ["one", "two", "three", "four"];
    const outcomes = await Promise.allSettled(sites.map((site) => claimSite(storage, { ...claim, site })));
    expect(outcomes.filter((outcome) => outcome.status === "fulfilled")).toHaveLength(1);
    for (const outcome of outcomes)
      if (outcome.status === "rejected") expect(outcome.reason).toMatchObject({ code: "repository_foreign" });
    const winner = sites[outcomes.findIndex((outcome) => outcome.status === "fulfilled")];
    expect((await readSite(storage))?.site).toBe(winner);
  });

  test("is shared by runs of the same site that claim at the same moment", async () => {
    const claims = [1, 2, 3].map((second) =>
      claimSite(storage, { ...claim, createdAt: `2026-11-20T02:00:0${second}.000Z` }),
    );
    const [first, ...others] = await Promise.all(claims);
    for (const other of others) expect(other).toEqual(first);
  });

  test("is missed by whatever must not take an empty storage for an answer", async () => {
    await expect(requireSite(storage, "shop-prod")).rejects.toMatchObject({
      exitCode: 10,
      message: `storage local holds no backups: ${join(directory, "root")} has no jbackup-site.json`,
    });
  });

  test.each([
    [
      '{"format":2,"owner":{}}',
      "version_mismatch",
      "storage local was written by a newer jbackup (format 2)",
    ],
    ['{"format":1}', "object_corrupt", "storage local: jbackup-site.json is not readable"],
    ["<html>", "object_corrupt", "storage local: jbackup-site.json is not readable"],
    ["null", "object_corrupt", "storage local: jbackup-site.json is not readable"],
    ["", "object_corrupt", "storage local: jbackup-site.json is not readable"],
  ])("that reads %j is an error, and stays as it is", async (content, code, message) => {
    await storage.put(SITE_MARKER, bytesBody([Buffer.from(content)]));
    await expect(claimSite(storage, claim)).rejects.toMatchObject({ code, message });
    expect(readFileSync(join(directory, "root", SITE_MARKER), "utf8")).toBe(content);
  });
});

describe("bodies", () => {
  test("of bytes and of a file read the same from any offset", async () => {
    const path = join(directory, "file");
    writeFileSync(path, "0123456789");
    const file = await fileBody(path);
    const bytes = bytesBody([Buffer.from("012"), Buffer.from(""), Buffer.from("3456"), Buffer.from("789")]);
    expect([file.bytes, file.sha256]).toEqual([bytes.bytes, bytes.sha256]);
    for (const [start, end] of [
      [0, 10],
      [0, 0],
      [2, 5],
      [3, 7],
      [9, 10],
      [10, 10],
    ] as const) {
      const read = async (body: typeof file) =>
        Buffer.concat(await collect(body.read(start, end))).toString();
      expect([await read(file), await read(bytes)]).toEqual([
        "0123456789".slice(start, end),
        "0123456789".slice(start, end),
      ]);
    }
  });

  test("small objects are read whole, and refused when they are not small", async () => {
    await storage.put("key", bytesBody([Buffer.from("0123456789")]));
    expect((await readAll(storage, "key", { maxBytes: 10 })).toString()).toBe("0123456789");
    await expect(readAll(storage, "key", { maxBytes: 9 })).rejects.toThrow(
      "storage local: key is longer than the 9 bytes that such an object may have",
    );
  });
});
