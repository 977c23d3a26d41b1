import { type ChildProcess, spawn } from "node:child_process";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { resume, runUntil } from "../support/kill.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { checkPages, checkRelations, expectSameTotals, serveRestored } from "../support/restored.js";
import { makeSite, type TestSite } from "../support/site.js";
import { type Standby, startStandby } from "../support/standby.js";

let primary: TestPostgres;
let standby: Standby;
let folder: string;
let site: TestSite;
let load: ChildProcess;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "jbackup-on-standby-"));
  await chmod(folder, 0o755);
  primary = await startPostgres({
    initdb: ["-k"],
    settings: { full_page_writes: "on", wal_level: "replica", fsync: "off" },
  });
  const bench = (args: string[]) => spawn(join(primary.binDirectory, "pgbench"), args, { stdio: "ignore" });
  await new Promise((resolve) => bench(["-i", "-q", "-s", "2", primary.url()]).on("close", resolve));
  standby = startStandby(primary);
  load = bench(["-n", "-c", "2", "-T", "600", primary.url()]);
  site = await makeSite({ here: true, url: standby.url() });
});

afterAll(async () => {
  load?.kill("SIGTERM");
  standby?.stop();
  await site?.remove();
  await primary?.stop();
  await rm(folder, { recursive: true, force: true });
});

const configOf = async (name: string, url: string, more: string): Promise<string> => {
  const file = join(folder, `${name}.yaml`);
  const place = join(site.folder, "local");
  await writeFile(
    file,
    `site: test\ndatabase: {url: "${url}"${more}}\nstorages:\n  - {name: local, kind: local, path: ${place}}\n`,
  );
  return file;
};

async function expectWhole(reference: string): Promise<void> {
  const directory = join(folder, reference);
  await site.json(["restore", reference, "--mode", "full", "--into-dir", directory, "--reason", "test"]);
  const restored = await serveRestored(directory, primary.binDirectory);
  try {
    await expectSameTotals(restored.url());
    checkRelations(restored.url(), primary.binDirectory);
  } finally {
    await restored.stop();
  }
  checkPages(directory, primary.binDirectory);
}

describe("a standby under load", () => {
  test.each([
    ["its files", "files", ""],
    ["the replication protocol", "stream", ", dataDirectory: stream"],
  ])("is backed up by %s", async (_, reader, more) => {
    const config = await configOf(reader, standby.url(), more);
    const backup = await site.json(["backup", "full", "--fresh", "--config", config]);
    expect(backup.metadata).toMatchObject({ reader, takenOn: "standby", timeline: 1, damagedPages: 0 });
    expect(backup.metadata.lagSeconds).toBeGreaterThanOrEqual(0);
    await expectWhole(backup.id);
  });

  test("and its primary share a chain: one builds on what the other stored", async () => {
    const config = await configOf("primary", primary.url(), "");
    const backup = await site.json(["backup", "full", "--config", config]);
    expect(backup.metadata).toMatchObject({ takenOn: "primary", incremental: true });
    expect(backup.metadata.blocksReferenced).toBeGreaterThan(0);
    await expectWhole(backup.id);
  });
});

describe("a standby that is promoted during its backup", () => {
  test("fails the backup; afterwards it is backed up on its new timeline, on top of the old ones", async () => {
    const running = await runUntil(site, "files-read", ["backup", "full", "--json"]);
    standby.promote();
    const ran = await resume(running);
    expect(ran.code).toBe(1);
    expect(JSON.parse(ran.stdout).error.message).toMatch(/promoted/);
    const next = await site.json(["backup", "full"]);
    expect(next.metadata).toMatchObject({ takenOn: "primary", timeline: 2, incremental: true });
    const stream = await configOf("promoted", standby.url(), ", dataDirectory: stream");
    const streamed = await site.json(["backup", "full", "--config", stream]);
    expect(streamed.metadata).toMatchObject({ reader: "stream", timeline: 2 });
    load.kill("SIGTERM");
    await expectWhole(streamed.id);
  });
});
