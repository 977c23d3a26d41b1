import type { Backup } from "../../domain/backup.js";
import { JBackupError, reasonOf } from "../../domain/errors.js";
import { parseTarget } from "../../domain/recoveryTarget.js";
import { compactTime } from "../../domain/time.js";
import type { Reporter, Site } from "../../engine/site.js";
import { tenantsWithBackups } from "../../engine/tenants/list.js";
import { type WalStatus, walStatus } from "../../engine/wal/status.js";
import type { Options } from "../context.js";
import type { Ask, Choice } from "./ask.js";
import { windowText } from "./windowText.js";

/** What somebody may want of a backup. */
export interface Way {
  goal:
    | "database"
    | "replace"
    | "moment"
    | "moment-files"
    | "merge"
    | "files"
    | "tenant"
    | "tenant-moment"
    | "clone";
  /** Of this very backup; otherwise jbackup chooses the base. */
  fixed: boolean;
  tenantId: string | null;
}

export function waysOf({ kind, method, tenantId }: Backup, hasTenants: boolean): Choice<Way>[] {
  const way = (goal: Way["goal"], name: string, fixed = true): Choice<Way> => ({
    name,
    value: { goal, fixed, tenantId },
  });
  if (kind === "tenant")
    return [
      way("tenant", `tenant ${tenantId}: its rows become what they were in this backup`),
      way("clone", `tenant ${tenantId}: a copy under another id, beside it`),
    ];
  const isPhysical = method === "physical";
  return [
    ...(hasTenants
      ? [
          way("tenant", "one or more tenants, as in this backup; nobody else is touched"),
          ...(isPhysical ? [way("tenant-moment", "one or more tenants, as of a moment", false)] : []),
        ]
      : []),
    way("database", "the database, into a new one beside the live one"),
    way("merge", "only rows that are missing, into the live database"),
    ...(isPhysical
      ? [
          way("moment", "a moment in time, as a new database beside the live one", false),
          way("moment-files", "a moment in time: the whole cluster, as files in a directory", false),
          way("files", "the whole cluster of this backup, as files in a directory"),
        ]
      : []),
    way("replace", "replace the live database; the old one is kept under another name"),
  ];
}

interface Surroundings {
  report: Reporter;
  now: Date;
}

/** The flags of the command, question by question. */
export async function askOptions(site: Site, ask: Ask, way: Way, around: Surroundings): Promise<Options> {
  const options: Options = { ...(await goalOptions(site, ask, way, around)) };
  options.reason = (
    await ask.text("Why? It is recorded with the restore", {
      problem: (text) => (text.trim() === "" ? "a few words, for those who read the records" : null),
    })
  ).trim();
  return options;
}

async function goalOptions(site: Site, ask: Ask, way: Way, around: Surroundings): Promise<Options> {
  switch (way.goal) {
    case "database":
      return { mode: "full", intoDb: await askDatabase(site, ask, around.now) };
    case "replace":
      return { mode: "full" };
    case "files":
      return {
        mode: "full",
        intoDir: await askDirectory(ask),
        start: await ask.yes("Start the server there?", false),
      };
    case "moment":
      return {
        mode: "pitr",
        to: await askMoment(site, ask, around),
        intoDb: await askDatabase(site, ask, around.now),
      };
    case "moment-files":
      return {
        mode: "pitr",
        to: await askMoment(site, ask, around),
        intoDir: await askDirectory(ask),
        start: await ask.yes("Start the server there?", false),
      };
    case "merge":
      return mergeOptions(ask);
    case "tenant":
    case "tenant-moment":
      return tenantOptions(site, ask, way, around);
    case "clone":
      return {
        tenant: [String(way.tenantId)],
        asTenant: await ask.text("Id of the new tenant", { problem: notEmpty }),
      };
  }
}

const notEmpty = (text: string): string | null => (text.trim() === "" ? "it cannot be empty" : null);

async function mergeOptions(ask: Ask): Promise<Options> {
  const onConflict = await ask.select("When a row exists with other values", [
    { name: "leave it as it is now", value: "skip" },
    { name: "overwrite it with the backup's", value: "overwrite" },
    { name: "do nothing at all and say so", value: "fail" },
  ]);
  const tables = await ask.text("Only these tables (with schema, separated by spaces; empty: all)", {
    initial: "",
  });
  const named = tables.split(/[\s,]+/).filter((name) => name !== "");
  return { mode: "merge", onConflict, ...(named.length === 0 ? {} : { tables: named }) };
}

async function tenantOptions(site: Site, ask: Ask, way: Way, around: Surroundings): Promise<Options> {
  const tenant = way.tenantId === null ? await askTenants(site, ask) : [way.tenantId];
  const to = way.goal === "tenant-moment" ? await askMoment(site, ask, around) : undefined;
  const mode = await ask.select("What should happen to rows that differ?", [
    { name: "everything becomes what it was then (changed back, new ones deleted)", value: "full" },
    { name: "only bring back what is gone", value: "merge" },
  ]);
  return { mode, tenant, ...(to === undefined ? {} : { to }) };
}

async function askTenants(site: Site, ask: Ask): Promise<string[]> {
  const tenants = await tenantsWithBackups(site);
  const choices = tenants.map(({ id, name, active }) => ({
    name: `${name ?? id}${name === null ? "" : `  ${id}`}${active ? "" : "  (not active)"}`,
    value: id,
  }));
  const chosen: string[] = [];
  do {
    const left = choices.filter(({ value }) => !chosen.includes(value));
    chosen.push(await ask.search("Tenant (type to search by name or id)", left));
  } while (chosen.length < choices.length && (await ask.yes("Another one?", false)));
  return chosen;
}

const askDatabase = (site: Site, ask: Ask, now: Date): Promise<string> =>
  site.postgres().then(({ database }) =>
    ask.text("Name of the new database", {
      initial: `${database}_${compactTime(now).replace("-", "_")}`,
      problem: notEmpty,
    }),
  );

const askDirectory = (ask: Ask): Promise<string> =>
  ask.text("Directory (new or empty)", {
    problem: (text) => (text.startsWith("/") ? null : "give its whole path, such as /var/lib/pg_restored"),
  });

/** The window of moments is drawn first, so that the answer can lie inside. */
async function askMoment(site: Site, ask: Ask, { report, now }: Surroundings): Promise<string> {
  const status = await reachable(site);
  if (status !== null) for (const line of windowText(status, now)) report.info(line);
  return ask.text("Which moment? A time with its zone, an LSN, a restore point, or latest", {
    problem: (text) => momentProblem(text, status, now),
  });
}

async function reachable(site: Site): Promise<WalStatus | null> {
  try {
    return await walStatus(site);
  } catch (error) {
    if (!(error instanceof JBackupError)) throw error;
    site.report.warn(`which moments can be reached is not known: ${reasonOf(error)}`);
    return null;
  }
}

/** What the restore itself would refuse later, told while it can still be typed again. */
export function momentProblem(
  text: string,
  status: Pick<WalStatus, "window"> | null,
  now: Date,
): string | null {
  let target: ReturnType<typeof parseTarget>;
  try {
    target = parseTarget(text.trim());
  } catch (error) {
    if (error instanceof JBackupError) return error.hint ?? error.message;
    throw error;
  }
  if (target.kind !== "time") return null;
  if (target.at > now) return `${target.at.toISOString()} is in the future`;
  const from = status?.window?.from.at;
  if (from !== undefined && target.at < new Date(from))
    return `the first moment that can be reached is ${from}`;
  return null;
}
