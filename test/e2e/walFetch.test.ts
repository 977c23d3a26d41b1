import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readEnvironment } from "../../src/config/config.js";
import { openWalWriter } from "../../src/engine/wal/walWriter.js";
import { openSite } from "../../src/wire.js";
import { makeSite, type Ran, type TestSite } from "../support/site.js";
import { type MadeSegment, makeSegment, SMALL_SEGMENT } from "../support/walSegment.js";

const SYSTEM = 77n;
let site: TestSite;
let data: string;
const segments = Array.from({ length: 12 }, (_, nth) => makeSegment(nth + 1, { systemId: SYSTEM }));

/** A data directory as far as these commands look into one. */
async function makeData(systemId: bigint): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "jbackup-data-"));
  await mkdir(join(folder, "global"));
  await mkdir(join(folder, "pg_wal", "archive_status"), { recursive: true });
  const control = Buffer.alloc(8192);
  control.writeBigUInt64LE(systemId);
  await writeFile(join(folder, "global", "pg_control"), control);
  return folder;
}

const push = async ({ name, content }: MadeSegment, folder = data): Promise<Ran> => {
  const path = join(folder, "pg_wal", name);
  await writeFile(path, content);
  return site.run("wal", "push", path);
};

const fetched = (): string => join(data, "pg_wal", "RECOVERYXLOG");
const fetch = (name: string, path = fetched()): Promise<Ran> => site.run("wal", "fetch", name, path);
const spool = (): string => join(site.home, "wal-fetched");
const storage = (name: string): string => join(site.folder, name);

async function spooled(): Promise<string[]> {
  if (!existsSync(spool())) return [];
  const paths = await readdir(spool(), { recursive: true });
  return paths.flatMap((path) => path.match(/[0-9A-F]{24}$/) ?? []).sort();
}

/** Puts WAL files as the follower does. */
async function store(files: { name: string; content: Buffer }[]): Promise<void> {
  const quiet = (): void => undefined;
  const opened = await openSite({
    configFile: site.configFile,
    environment: { ...readEnvironment(), jbackupHome: site.home },
    report: { info: quiet, warn: quiet, progress: quiet, progressEnd: quiet },
    signal: new AbortController().signal,
    onSecret: quiet,
    version: "0.0.0",
  });
  try {
    const writer = await openWalWriter(opened, String(SYSTEM));
    for (const { name, content } of files) await writer.put(name, content);
    await writer.settled();
  } finally {
    await opened.close();
  }
}

beforeAll(async () => {
  data = await makeData(SYSTEM);
  site = await makeSite({
    url: "postgresql:///shop?host=/nonexistent",
    storages: (place) =>
      ["one", "two"].map((name) => `- {name: ${name}, kind: local, path: ${join(place, name)}}`),
  });
  for (const segment of segments) await writeFile(join(data, "pg_wal", segment.name), segment.content);
  for (const { name } of segments)
    await writeFile(join(data, "pg_wal", "archive_status", `${name}.ready`), "");
  expect((await site.run("wal", "push", join(data, "pg_wal", segments[0]?.name ?? ""))).code).toBe(0);
  await rm(join(data, "pg_wal", "archive_status"), { recursive: true });
});

afterAll(async () => {
  await site?.remove();
  await rm(data, { recursive: true, force: true });
});

describe("archive_command", () => {
  test("pushes what else is ready along, and knows it when it is asked", async () => {
    const stored = (await readdir(storage("one"), { recursive: true })).filter((name) =>
      /[0-9A-F]{24}\.jbk$/.test(name),
    );
    expect(stored).toHaveLength(segments.length);
    const next = segments[1] as MadeSegment;
    await rename(storage("one"), storage("one-gone"));
    await rename(storage("two"), storage("two-gone"));
    try {
      // nothing has to be stored any more, so nothing is asked of the storages
      expect((await site.run("wal", "push", join(data, "pg_wal", next.name))).code).toBe(0);
    } finally {
      for (const name of ["one", "two"]) {
        await rm(storage(name), { recursive: true, force: true });
        await rename(storage(`${name}-gone`), storage(name));
      }
    }
  });

  test("takes the same content again, and no other: that is a critical alert", async () => {
    const segment = makeSegment(3);
    expect((await push(segment)).code).toBe(0);
    const other = Buffer.from(segment.content);
    other[5000] = (other[5000] ?? 0) ^ 1;
    const refused = await push({ ...segment, content: other });
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain(`holds ${segment.name} with other content`);
    expect(await site.json(["alerts"])).toContainEqual(
      expect.objectContaining({
        type: "SECURITY",
        severity: "critical",
        fingerprint: `wal_conflict:${segment.name}`,
      }),
    );
  });

  test("refuses another cluster's, even under a name that was pushed along for this one", async () => {
    const foreign = await makeData(99n);
    try {
      const refused = await push(makeSegment(4, { systemId: 99n }), foreign);
      expect(refused.code).toBe(1);
      expect(refused.stderr).toContain("this is cluster 99, and site test protects cluster 77");
      expect(await site.json(["alerts"])).toContainEqual(
        expect.objectContaining({ type: "SECURITY", severity: "critical", fingerprint: "foreign_system:99" }),
      );
    } finally {
      await rm(foreign, { recursive: true });
    }
  });

  test("refuses a segment that PostgreSQL keeps for later use under a name to come", async () => {
    const refused = await push({ name: makeSegment(40).name, content: makeSegment(2).content });
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain("begins at 0/200000");
  });

  test("refuses half a segment, other files, and wrong words, always with 1", async () => {
    const half = await push({
      name: makeSegment(41).name,
      content: makeSegment(41).content.subarray(0, 70_000),
    });
    expect([half.code, half.stderr]).toEqual([1, expect.stringContaining("is not a whole WAL segment")]);
    const strange = await site.run("wal", "push", join(data, "global", "pg_control"));
    expect([strange.code, strange.stderr]).toEqual([
      1,
      expect.stringContaining("pg_control is no file of the WAL"),
    ]);
    const missing = await site.run("wal", "push", join(data, "pg_wal", makeSegment(50).name));
    expect([missing.code, missing.stderr]).toEqual([1, expect.stringContaining("cannot read")]);
    expect((await site.run("wal", "push")).code).toBe(1);
    expect((await site.run("wal", "push", "--config", "/nowhere.yaml", "x")).code).toBe(1);
  });

  test("keeps histories and unfinished last segments, and has no use for backup labels", async () => {
    const history = {
      name: "00000002.history",
      content: Buffer.from("1\t0/C80000\tno recovery target specified\n"),
    };
    expect((await push(history)).code).toBe(0);
    expect(
      (await push({ name: `${makeSegment(13).name}.partial`, content: makeSegment(13).content })).code,
    ).toBe(0);
    expect(
      (await push({ name: `${makeSegment(2).name}.00000028.backup`, content: Buffer.from("x") })).code,
    ).toBe(0);
    expect((await fetch(history.name, join(data, "history"))).code).toBe(0);
    expect(await readFile(join(data, "history"))).toEqual(history.content);
  });

  test("fails while there are too few copies, so that PostgreSQL keeps its WAL", async () => {
    await rename(storage("two"), storage("two-gone"));
    await writeFile(storage("two"), "no folder");
    try {
      const failed = await push(makeSegment(14));
      expect([failed.code, failed.stderr]).toEqual([1, expect.stringContaining("two")]);
    } finally {
      await rm(storage("two"));
      await rename(storage("two-gone"), storage("two"));
    }
    expect((await push(makeSegment(14))).code).toBe(0);
  });
});

describe("restore_command", () => {
  test("brings every segment byte for byte, most of them from what was fetched ahead", async () => {
    let ahead = 0;
    for (const { name, content } of segments) {
      if ((await spooled()).includes(name)) ahead++;
      const ran = await fetch(name);
      expect([ran.code, ran.stdout, ran.stderr]).toEqual([0, "", ""]);
      expect((await readFile(fetched())).equals(content)).toBe(true);
      for (
        let waited = 0;
        waited < 100 && (await spooled()).length === 0 && name !== segments.at(-1)?.name;
        waited++
      )
        await delay(50);
    }
    expect(ahead).toBeGreaterThan(8);
  });

  test("joins pieces, with zeros behind the last that follows on", async () => {
    const { name, content } = makeSegment(20, { filled: 1 });
    const piece = (from: number, to: number) => ({
      name: `${name}.${[from, to].map((at) => at.toString(16).toUpperCase().padStart(8, "0")).join("-")}`,
      content: content.subarray(from, to),
    });
    await store([piece(0, 65_536), piece(65_536, 200_000), piece(300_000, 400_000)]);
    expect((await fetch(name)).code).toBe(0);
    const got = await readFile(fetched());
    expect(got).toHaveLength(SMALL_SEGMENT);
    expect(got.subarray(0, 200_000).equals(content.subarray(0, 200_000))).toBe(true);
    expect(got.subarray(200_000).every((byte) => byte === 0)).toBe(true);

    // whether more of it lies in a storage that cannot be asked is not known
    await rename(storage("two"), storage("two-gone"));
    await mkdir(storage("two"));
    try {
      const unsure = await fetch(name);
      expect([unsure.code, unsure.stderr]).toEqual([
        126,
        expect.stringContaining(`whether there is ${name} is not known`),
      ]);
    } finally {
      await rm(storage("two"), { recursive: true });
      await rename(storage("two-gone"), storage("two"));
    }
  });

  test("says that the archive ends with 1, and only when every storage says so", async () => {
    const absent = makeSegment(30).name;
    await rm(fetched(), { force: true });
    const ends = await fetch(absent);
    expect([ends.code, ends.stderr]).toEqual([1, ""]);
    expect((await fetch("00000009.history")).code).toBe(1);
    for (const made of [
      (): Promise<unknown> => mkdir(storage("two")),
      () => writeFile(storage("two"), "no folder"),
      async () => undefined,
    ]) {
      await rename(storage("two"), storage("two-gone"));
      await made();
      try {
        expect((await fetch(absent)).code).toBe(126);
        // what another storage has is had
        expect((await fetch(segments[5]?.name ?? "")).code).toBe(0);
      } finally {
        await rm(storage("two"), { recursive: true, force: true });
        await rename(storage("two-gone"), storage("two"));
      }
    }
    expect(existsSync(join(data, "pg_wal", `~RECOVERYXLOG`))).toBe(false);
  });

  test("ends above 125 on every error", async () => {
    expect((await fetch("pg_control")).code).toBe(126);
    expect((await site.run("wal", "fetch")).code).toBe(126);
    expect(
      (await site.run("wal", "fetch", segments[0]?.name ?? "", fetched(), "--config", "/nowhere.yaml")).code,
    ).toBe(126);
    expect((await fetch(segments[0]?.name ?? "", "/nowhere/at/all")).code).toBe(126);
  });

  test("is put off by no bad copy while there is a good one", async () => {
    const { name, content } = segments[7] as MadeSegment;
    const [found = ""] = (await readdir(storage("one"), { recursive: true })).filter((path) =>
      path.endsWith(`${name}.jbk`),
    );
    const path = join(storage("one"), found);
    const good = await readFile(path);
    const bad = Buffer.from(good);
    bad[bad.length - 200] = (bad[bad.length - 200] ?? 0) ^ 1;
    await rm(path);
    await writeFile(path, bad);
    await rm(spool(), { recursive: true, force: true });
    expect((await fetch(name)).code).toBe(0);
    expect((await readFile(fetched())).equals(content)).toBe(true);
    await rm(path);
    await writeFile(path, good);
  });
});

describe("a storage that is down", () => {
  test("costs one push its time and no fetch any, while enough others work", async () => {
    const down = join(site.folder, "down.yaml");
    const text = await readFile(site.configFile, "utf8");
    const r2 =
      '- {name: r2, kind: s3, endpoint: "http://127.0.0.1:9", bucket: b, region: auto, accessKeyId: x, secretAccessKey: y}';
    await writeFile(down, text.replace("storages:", `minCopies: 2\nstorages:\n  ${r2}`), { mode: 0o600 });
    const timed = async (...args: string[]): Promise<number> => {
      const began = performance.now();
      expect((await site.run(...args, "--config", down)).code).toBe(0);
      return performance.now() - began;
    };
    const path = (nth: number): string => join(data, "pg_wal", (segments[nth] as MadeSegment).name);
    await timed("wal", "push", path(3));
    expect(await timed("wal", "push", path(4))).toBeLessThan(6000);
    expect(await timed("wal", "fetch", (segments[8] as MadeSegment).name, fetched())).toBeLessThan(6000);
    expect(await site.json(["alerts"])).toContainEqual(
      expect.objectContaining({ type: "COPY_MISSING", storage: "r2" }),
    );
  });
});

describe("wal status", () => {
  test("needs neither the server nor a private key, and says what it cannot know without them", async () => {
    const bare = join(site.folder, "bare.yaml");
    const keys = join(site.home, "keys");
    const [recipient, signer] = await Promise.all(
      ["recipient", "signer"].map(async (name) => (await readFile(join(keys, name), "utf8")).trim()),
    );
    const named = `keys: {recipients: [${recipient}], signing: {file: ${join(keys, "signing")}}, signers: [${signer}]}`;
    await writeFile(bare, `${await readFile(site.configFile, "utf8")}${named}\n`, { mode: 0o600 });
    const status = await site.json(["wal", "status", "--config", bare]);
    expect(status).toMatchObject({
      systemId: "77",
      window: null,
      server: null,
      sealedTimelines: [2],
      unread: [],
    });
    expect(status.serverError).toContain("cannot reach PostgreSQL");
    const shown = await site.run("wal", "status", "--config", bare);
    expect(shown.code).toBe(0);
    expect(shown.stdout).toContain("No moment can be reached yet");
    expect(shown.stdout).toContain("server   cannot be asked: cannot reach PostgreSQL");
    expect(shown.stdout).toContain("missing  timeline 1: ");
    expect(shown.stdout).toContain("the histories of timelines 2 are sealed");
  });
});
