import "./sources.ts";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";

/** A catalog with a million backups, or as many as are named, in each database: prints what every question takes. */
const backups = Number(process.argv[2] ?? 1_000_000);
const only = process.argv[3];

const { openCatalog } = await import("../../src/catalog/catalogs.js");
const { systemClock } = await import("../../src/sys/clock.js");
const { startPostgres } = await import("../support/postgres.js");
const { EVERY_TENANT, fill, medianMs, questions } = await import("./catalogScale.js");

const analyze = async (url: string): Promise<void> => {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query("vacuum analyze");
  await client.end();
};

async function measure(name: string, url: string, settle: () => Promise<void>): Promise<boolean> {
  const catalog = await openCatalog(url, { clock: systemClock });
  const begin = performance.now();
  await fill(catalog, backups);
  await settle();
  console.log(
    `\n${name}: ${backups.toLocaleString("en")} backups in ${Math.round((performance.now() - begin) / 1_000)} s`,
  );
  let isFine = true;
  for (const question of [...questions(backups), EVERY_TENANT]) {
    const { ms, answers } = await medianMs(question, catalog);
    const isLate = ms > question.limitMs;
    isFine &&= !isLate;
    const limit = Number.isFinite(question.limitMs) ? `of ${question.limitMs} ms` : "";
    console.log(
      `  ${question.what.padEnd(42)} ${ms.toFixed(1).padStart(7)} ms ${limit.padEnd(9)} ${String(answers).padStart(5)} answers${isLate ? "  TOO SLOW" : ""}`,
    );
  }
  await catalog.close();
  return isFine;
}

const results: boolean[] = [];
if (only !== "postgresql") {
  const directory = await mkdtemp(join(tmpdir(), "jbackup-scale-"));
  try {
    results.push(await measure("SQLite", `sqlite:${directory}/catalog.db`, async () => {}));
  } finally {
    await rm(directory, { recursive: true });
  }
}
if (only !== "sqlite") {
  const server = await startPostgres({ settings: { max_wal_size: "4GB" } });
  try {
    const url = server.url("postgres");
    results.push(await measure("PostgreSQL", url, () => analyze(url)));
  } finally {
    await server.stop();
  }
}
process.exitCode = results.every((isFine) => isFine) ? 0 : 1;
