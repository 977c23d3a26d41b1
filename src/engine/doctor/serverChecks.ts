import { finding } from "../../domain/diagnosis.js";
import { SCHEDULED } from "../../domain/schedule.js";
import { judgeServer, OLDEST_MAJOR, type ServerCheckup } from "../../domain/serverDiagnosis.js";
import { undecided } from "../../domain/tenantGraph.js";
import { slotName } from "../archiveWal.js";
import type { Site } from "../site.js";
import { tenantGraph } from "../tenants/graph.js";
import type { Check, Diagnosed } from "./check.js";

export const server: Check = {
  group: "server",
  name: "server",
  look: async (site) => {
    const checkup = await (await site.postgres()).checkup(slotName(site));
    return [
      ...judgeServer(checkup, {
        archives: await archives(site),
        hasTenants: site.config.tenants !== undefined,
      }),
      ...(await programs(site, checkup)),
    ];
  },
};

async function archives(site: Site): Promise<boolean> {
  if (site.config.schedule.wal !== undefined) return true;
  const [last] = await site.catalog
    .runs({ job: SCHEDULED.wal.job, scope: "whole", limit: 1 })
    .catch(() => []); // the catalog has its own check
  return last !== undefined;
}

/** Dumps want a client that is not older; files are brought up by a server of the very same version. */
async function programs(site: Site, { major }: ServerCheckup): Promise<Diagnosed[]> {
  const postgres = await site.postgres();
  const [dumps, servers] = await Promise.all([postgres.programs("pg_dump"), postgres.programs("postgres")]);
  const isDumped = dumps.some((one) => one >= major);
  const isStarted = servers.includes(major);
  const environment = { exit: 16 as const };
  return [
    isDumped
      ? finding(
          "server",
          "pg_dump",
          "ok",
          `pg_dump ${dumps.filter((one) => one >= major).at(-1)} can read this server`,
        )
      : {
          ...finding(
            "server",
            "pg_dump",
            "fail",
            dumps.length === 0
              ? "pg_dump was not found on this host"
              : `pg_dump ${dumps[0]} is older than the server, PostgreSQL ${major}`,
            `apt-get install postgresql-client-${major}, or set database.binDirectory`,
          ),
          ...environment,
        },
    isStarted || major < OLDEST_MAJOR
      ? finding(
          "server",
          "programs",
          "ok",
          `the programs of PostgreSQL ${major} are here, for restores and test restores`,
        )
      : finding(
          "server",
          "programs",
          "warn",
          `the server programs of PostgreSQL ${major} are not on this host: no point in time, no test restore, no drill here`,
          `apt-get install postgresql-${major} (nothing needs to run), or set database.binDirectory`,
        ),
  ];
}

export const tenants: Check = {
  group: "tenants",
  name: "tenants",
  look: async (site) => {
    if (site.config.tenants === undefined) return [];
    const postgres = await site.postgres();
    const session = await postgres.connect();
    try {
      const graph = await tenantGraph(site, postgres, session);
      const open = undecided(graph).map(({ table }) => table.shown);
      const unmatched = graph.unmatched.map(({ name }) => name);
      return [
        open.length === 0
          ? finding(
              "tenants",
              "tenants",
              "ok",
              `every table is decided among the tenants of ${graph.root.shown}`,
            )
          : finding(
              "tenants",
              "tenants",
              "fail",
              `whose rows they hold is not decided for ${open.slice(0, 5).join(", ")}${open.length > 5 ? ` and ${open.length - 5} more` : ""}: tenant backups are refused`,
              "jbackup tenants coverage shows every table; decide with tenants.owners, shared, transient or exclude",
            ),
        ...unmatched.map((name) =>
          finding(
            "tenants",
            "tenants",
            "warn",
            `the configuration names ${name}, and there is no such table`,
            "correct tenants: in jbackup.yaml, then jbackup tenants coverage",
          ),
        ),
      ];
    } finally {
      await session.close();
    }
  },
};
