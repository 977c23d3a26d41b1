import { reasonOf } from "../../domain/errors.js";
import type { Postgres, Session } from "../../postgres/postgres.js";
import type { Site } from "../site.js";
import { differences, type Outcome, type Prepared, requireEqual, restoredRows } from "./outcome.js";
import { temporaryDirectory } from "./space.js";

/** pg_restore --clean on the live database, all in one transaction. */
export async function restoreInPlace(
  site: Site,
  prepared: Prepared,
  postgres: Postgres,
  file: string,
): Promise<Outcome> {
  const { plan: planned, facts, request } = prepared;
  await postgres.restoring.load(
    {
      file,
      database: planned.target,
      jobs: request.jobs,
      directory: temporaryDirectory(site),
      how: "in-place",
    },
    facts,
    prepared.spacesMissing,
  );
  site.step("loaded");
  const counted = await postgres.restoring.count(planned.target);
  const differing = differences(prepared.recordedRows, counted, "superset");
  return {
    ...restoredRows(
      counted.filter(({ table }) => prepared.recordedRows.some((recorded) => recorded.table === table)),
    ),
    warnings: differing.map((difference) => `after the restore ${difference}`),
    metadata: {},
  };
}

/** Into a database of its own first; only a complete and checked one gets the target's name, or is merged from. */
export async function restoreBeside(
  site: Site,
  prepared: Prepared,
  postgres: Postgres,
  admin: Session,
  file: string,
): Promise<Outcome> {
  const { plan: planned, facts, request } = prepared;
  const steps = postgres.restoring;
  const side = sideName(planned.target, site.newId());
  const isMerge = planned.way === "merge";
  await steps.createSide(admin, side, facts.database, restoringSite(site));
  site.step("side-created");
  try {
    const stopWatching = watchLoading(site, admin, side, facts.database.bytes);
    try {
      await steps.load(
        {
          file,
          database: side,
          jobs: request.jobs,
          directory: temporaryDirectory(site),
          how: isMerge ? "rows-only" : "beside",
        },
        facts,
        prepared.spacesMissing,
      );
    } finally {
      await stopWatching();
    }
    site.step("loaded");
    const counted = await steps.count(side);
    requireEqual(prepared.recordedRows, counted, planned.label);
    site.step("checked");
    if (isMerge) return await mergeFrom(site, prepared, postgres, side);

    await steps.analyze(side);
    site.signal.throwIfAborted();
    await steps.dress(admin, side, facts.database);
    site.step("dressed");
    const keepAs = await freeName(steps, admin, keptName(site, planned.target));
    site.signal.throwIfAborted(); // the last moment at which stopping changes nothing
    const keptAs = await steps.swapIn(admin, side, planned.target, keepAs, facts.database);
    site.step("swapped");
    const kept =
      keptAs === null
        ? []
        : [`the database that was there is kept as ${keptAs}; drop it when it is no longer needed`];
    return { ...restoredRows(counted), warnings: kept, metadata: keptAs === null ? {} : { keptAs } };
  } finally {
    await dropSide(site, postgres, admin, side);
  }
}

/** Whose side databases they are. */
export const restoringSite = ({ config, environment }: Site): { site: string; host: string } => ({
  site: config.site,
  host: environment.host,
});

/** Gone already when it was swapped in: then this finds nothing. What went wrong before must not be hidden by what fails here. */
export async function dropSide(site: Site, postgres: Postgres, admin: Session, side: string): Promise<void> {
  try {
    await postgres.restoring.drop(admin, side);
  } catch {
    try {
      // the server may have restarted under the old session
      const fresh = await postgres.admin();
      await postgres.restoring.drop(fresh, side).finally(() => fresh.close());
    } catch (error) {
      site.report.warn(`${side} could not be dropped (${reasonOf(error)}); the next restore drops it`);
    }
  }
}

async function mergeFrom(site: Site, prepared: Prepared, postgres: Postgres, side: string): Promise<Outcome> {
  const { request, plan: planned } = prepared;
  const source = await postgres.connect(side);
  const target = await postgres.connect(planned.target);
  try {
    const merged = await postgres.restoring.merge({
      source,
      target,
      onConflict: request.onConflict,
      tables: request.tables,
      signal: site.signal,
      onProgress: (done, total, table) =>
        site.report.progress({ task: `merging ${table}`, done, total, unit: "tables" }),
    });
    site.step("merged");
    return { ...merged, metadata: {} };
  } finally {
    await Promise.all([source.close(), target.close()]);
  }
}

/** pg_restore says nothing while it works; the database's size does. */
function watchLoading(site: Site, admin: Session, side: string, expectedBytes: number): () => Promise<void> {
  let asked: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    asked = asked
      .then(() => admin.rows<{ bytes: string }>("select pg_database_size($1)::text as bytes", [side]))
      .then(([row]) => {
        const done = Number(row?.bytes ?? 0);
        site.report.progress({
          task: "restoring tables and indexes",
          done,
          total: Math.max(expectedBytes, done),
          unit: "bytes",
        });
      })
      .catch(() => clearInterval(timer)); // only a display: the restore itself reports what is wrong
  }, 1_000);
  return async () => {
    clearInterval(timer);
    await asked;
    site.report.progressEnd();
  };
}

/** PostgreSQL cuts names after 63 bytes; what is put behind this must never be cut off. */
const MOST_BYTES = 36;

function shortened(name: string): string {
  const characters = [...name];
  while (Buffer.byteLength(characters.join("")) > MOST_BYTES) characters.pop();
  return characters.join("");
}

const sideName = (target: string, id: string): string => `${shortened(target)}_jbackup_${id.slice(-8)}`;

/** Two restores within a second would want the same name. */
async function freeName(steps: Postgres["restoring"], admin: Session, wanted: string): Promise<string> {
  let name = wanted;
  for (let nth = 2; await steps.exists(admin, name); nth++) name = `${wanted}_${nth}`;
  return name;
}

const keptName = (site: Site, target: string): string =>
  `${shortened(target)}_before_${site.clock.now().toISOString().slice(0, 19).replace(/[-:]/g, "").replace("T", "_")}`;
