import type { ComparedTable } from "../../domain/census.js";
import { compareTables, exactDifferences, roughDifferences } from "../../domain/census.js";
import { checkCluster } from "../recovery/checkCluster.js";
import type { Site } from "../site.js";
import { failed, noted, type Protocol, passed, skipped } from "./protocol.js";
import type { Tested } from "./tested.js";

const MOST_NAMED = 5;

const named = (problems: string[]): string => {
  const more = problems.length - MOST_NAMED;
  return `${problems.slice(0, MOST_NAMED).join("; ")}${more > 0 ? `; and ${more} more` : ""}`;
};

const grouped = (count: number): string => count.toLocaleString("en");

/** Every database opens, and those that were there when the backup was made are there. */
export async function checkDatabases(site: Site, tested: Tested, protocol: Protocol): Promise<void> {
  await protocol.check("databases", "every database opens, and its tables can be found", async () => {
    const session = async (name = "postgres") => (await tested.open(name)).connect();
    const cluster = await checkCluster(site, { session });
    const seen = `${cluster.databases} databases open, and ${grouped(cluster.tables)} tables and catalogs in them are found`;
    const recorded = tested.recorded.databases;
    if (recorded === null) return passed("at least one", seen);
    const missing = await missingDatabases(tested, recorded);
    const expected = `${recorded.length} databases: ${recorded.join(", ")}`;
    if (missing.length === 0) return passed(expected, seen);
    const text = `${seen}; not there: ${missing.join(", ")}`;
    return tested.isLater
      ? noted(expected, `${text} (dropped since the backup, if the WAL is right)`)
      : failed(expected, text);
  });
}

async function missingDatabases({ postgres }: Tested, recorded: string[]): Promise<string[]> {
  const session = await postgres.admin();
  try {
    const there = await session.rows<{ name: string }>("select datname as name from pg_database");
    return recorded.filter((database) => !there.some(({ name }) => name === database));
  } finally {
    await session.close();
  }
}

/** Reads every row of every table, and sets the numbers against those that the backup tells of. */
export async function checkRows(tested: Tested, protocol: Protocol): Promise<ComparedTable[]> {
  const { recorded, postgres, isLater } = tested;
  let compared: ComparedTable[] = [];
  await protocol.check("rows", "every table is read from its first row to its last", async () => {
    const counted = await postgres.restoring.count(postgres.database);
    compared = compareTables(recorded.tables, counted);
    const rows = counted.reduce((sum, one) => sum + one.rows, 0);
    const seen = `${grouped(rows)} rows in ${grouped(counted.length)} tables`;
    if (recorded.how === "not") return passed("that every row can be read", seen);
    const before = recorded.tables.reduce((sum, one) => sum + one.rows, 0);
    if (recorded.how === "counted") {
      const expected = `exactly the ${grouped(before)} rows in ${grouped(recorded.tables.length)} tables that were counted in the snapshot of the backup`;
      const differing = exactDifferences(compared);
      return differing.length === 0
        ? passed(expected, seen)
        : failed(expected, `${seen}: ${named(differing)}`);
    }
    const expected = `every table of the ${grouped(recorded.tables.length)} that the server listed at the backup, with about ${grouped(before)} rows${isLater ? ", and what came since" : ""}`;
    const differing = roughDifferences(compared);
    if (differing.length === 0) return passed(expected, seen);
    const text = `${seen}: ${named(differing)}`;
    return isLater
      ? noted(expected, `${text} (changed since the backup, if the WAL is right)`)
      : failed(expected, text);
  });
  return compared;
}

/** PostgreSQL's own checkers, where they are installed. The last one stops the server. */
export async function checkSoundness(tested: Tested, protocol: Protocol): Promise<void> {
  const clean = "no damage reported";
  await protocol.check(
    "structure",
    "tables and B-tree indexes of every database, by pg_amcheck",
    async () => {
      const found = await tested.postgres.amcheck(tested.major);
      if (!found.checked) return skipped(clean, found.why);
      return found.problems.length === 0
        ? passed(clean, `${found.program} found no damage`)
        : failed(clean, named(found.problems));
    },
  );
  await protocol.check("checksums", "the checksum of every page on disk, by pg_checksums", async () => {
    const expected = "every checksum right";
    if (tested.checkPages === null)
      return noted(
        expected,
        tested.recorded.how === "counted"
          ? "a dump has no pages: they were written anew"
          : "page checksums are off in this cluster",
      );
    const found = await tested.checkPages();
    if (!found.checked) return skipped(expected, found.why);
    return found.problems.length === 0
      ? passed(expected, `${found.program} found all of them right`)
      : failed(expected, named(found.problems));
  });
}
