import { availableParallelism } from "node:os";
import { JBackupError } from "../../domain/errors.js";
import { Secret } from "../../domain/secret.js";
import type { DumpFacts, Postgres, ScratchCluster, TableRows } from "../../postgres/postgres.js";
import { openHiddenFile } from "../../sys/hiddenFile.js";
import { requireRoom } from "../files/target.js";
import type { FoundBackup } from "../findBackup.js";
import { type OpenedBackup, openBackup } from "../openBackup.js";
import { sizedOptions } from "../recovery/serverFor.js";
import { globalsOf } from "../restore/fromDump.js";
import { restoringSite } from "../restore/load.js";
import { requireSpace, temporaryDirectory } from "../restore/space.js";
import { ELSEWHERE } from "../scratch.js";
import type { Site } from "../site.js";
import type { Protocol } from "./protocol.js";
import type { Tested } from "./tested.js";

/** A logical backup on an empty server of our own: the production server is not touched, it may even be gone. */
export async function testDump(
  site: Site,
  found: FoundBackup,
  protocol: Protocol,
  work: (tested: Tested) => Promise<void>,
): Promise<void> {
  const backup = await protocol.step("open the backup", () => openBackup(site, found));
  const facts = backup.contents.detail.logical as DumpFacts;
  const environment = { path: site.environment.path, home: site.environment.home };
  const { sweepScratchClusters, startScratchCluster } = await site.clusters();
  const parentDirectory = site.environment.temporaryDirectory;
  for (const swept of await sweepScratchClusters(
    parentDirectory,
    environment,
    site.config.database.binDirectory,
  ))
    site.report.info(`removed ${swept}, a scratch cluster of a killed run`);
  await requireRoom(parentDirectory, facts.database.bytes, ELSEWHERE);
  const binDirectory = await serverPrograms(site, facts);
  const cluster = await protocol.step("make an empty server", () =>
    startScratchCluster({ parentDirectory, binDirectory, environment, settings: sizedOptions() }),
  );
  let stopping: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    stopping ??= cluster.stop();
    return stopping;
  };
  try {
    site.step("scratch-up");
    const open = (database: string): Promise<Postgres> => openScratch(site, cluster, binDirectory, database);
    const postgres = await open(facts.database.name);
    await protocol.step("load the dump", () => load(site, postgres, backup, facts));
    await work(await testedOf(found, backup, postgres, { open, abort: stop }));
  } finally {
    await stop();
    site.report.progressEnd();
  }
}

/** Of the dump's own version, else the nearest newer one. */
async function serverPrograms(site: Site, { serverMajor }: DumpFacts): Promise<string> {
  const { findBinDirectories } = await site.clusters();
  const { environment, config } = site;
  const found = await findBinDirectories(
    "initdb",
    { path: environment.path, home: environment.home },
    config.database.binDirectory,
  );
  const fitting = found.filter(({ major }) => major >= serverMajor).sort((a, b) => a.major - b.major);
  const [nearest] = fitting;
  if (nearest) return nearest.path;
  const there = found.map(({ major }) => major).join(", ") || "none";
  throw new JBackupError(
    "version_mismatch",
    `the backup is of PostgreSQL ${serverMajor}, and the server programs on this machine are of: ${there}`,
    { hint: `install PostgreSQL ${serverMajor}, or point database.binDirectory at its programs` },
  );
}

async function openScratch(
  site: Site,
  cluster: ScratchCluster,
  binDirectory: string,
  database: string,
): Promise<Postgres> {
  const { openPostgres } = await site.clusters();
  return openPostgres({
    url: new Secret(cluster.url(database)),
    user: "postgres",
    binDirectory: site.config.database.binDirectory === "auto" ? "auto" : binDirectory,
    dataDirectory: cluster.dataDirectory,
    nowMs: () => site.clock.now().getTime(),
    environment: { path: site.environment.path, home: site.environment.home },
    signal: site.signal,
  });
}

/** The same steps as a restore takes, up to the last: there is nobody to let in. */
async function load(site: Site, postgres: Postgres, backup: OpenedBackup, facts: DumpFacts): Promise<void> {
  const steps = postgres.restoring;
  const { name } = facts.database;
  const admin = await postgres.admin();
  const archive = await openHiddenFile(temporaryDirectory(site));
  try {
    const entry = backup.entry("database.pgdump");
    await requireSpace(site, admin, entry.bytes, facts.database.bytes);
    await steps.createMissingRoles(admin, facts.roles, await globalsOf(backup));
    const lost = await steps.checkTarget(admin, facts);
    await archive.write(backup.read(entry));
    if (await steps.exists(admin, name)) await steps.drop(admin, name);
    await steps.createSide(admin, name, { ...facts.database, tablespace: "pg_default" }, restoringSite(site));
    const directory = temporaryDirectory(site);
    const jobs = availableParallelism();
    await steps.load(
      { file: archive.path, database: name, jobs, directory, how: "beside" },
      facts,
      lost.length > 0,
    );
    site.step("past-loaded");
    await steps.analyze(name);
    await steps.dress(admin, name, facts.database);
  } finally {
    await archive.close();
    await admin.close();
  }
}

async function testedOf(
  found: FoundBackup,
  { contents }: OpenedBackup,
  postgres: Postgres,
  { open, abort }: Pick<Tested, "open" | "abort">,
): Promise<Tested> {
  const { body } = found.manifest;
  const session = await postgres.connect();
  try {
    const [row] = await session.rows<{ version: string; num: string }>(
      "select current_setting('server_version') as version, current_setting('server_version_num') as num",
    );
    return {
      postgres,
      open,
      abort,
      major: Math.floor(Number(row?.num) / 10_000),
      recovery: {
        // the snapshot is taken when the backup begins: what came later is not in it
        recoveredTo: body.createdAt,
        lastCommitAt: null,
        replayedLsn: null,
        walFiles: 0,
        serverVersion: row?.version ?? "",
      },
      recorded: { how: "counted", tables: contents.detail.tables as TableRows[], databases: null },
      isLater: false,
      checkPages: null,
    };
  } finally {
    await session.close();
  }
}
