import type { Backup } from "../../domain/backup.js";
import { isJBackupError, JBackupError } from "../../domain/errors.js";
import { backupTenants, type TenantsBackup } from "../../engine/backupTenants.js";
import type { Site } from "../../engine/site.js";
import { requireTenants } from "../../engine/tenants/choose.js";
import { tenantSettings } from "../../engine/tenants/graph.js";
import { orderTenants } from "../../engine/tenants/order.js";
import { copiesText, sizesText } from "../backupText.js";
import { type CommandRun, withSite } from "../context.js";
import { countFlag, isSet, listFlag, textFlag } from "../flags.js";
import { laterIn, storeForLater } from "../later.js";
import { bytesText, countedText, countText, durationText } from "../text.js";
import { withConfig } from "./backupConfig.js";

/** Small enough that a worker that dies costs little, large enough that a snapshot is worth taking. */
const BATCH = 50;

export const run: CommandRun = (context, _args, options) => {
  const named = listFlag(options, "tenant")
    .flatMap((list) => list.split(","))
    .filter((id) => id !== "");
  const isAll = isSet(options, "all");
  if (isAll === named.length > 0)
    throw new JBackupError(
      "usage",
      isAll ? "--all and --tenant exclude each other" : "which tenants is not said",
      { hint: "give --tenant ID (several times, if you like), or --all for every active one" },
    );
  const isQueued = isSet(options, "queue");
  const size = countFlag(options, "batch", 1, 1_000);
  if (isQueued && !isAll)
    throw new JBackupError("usage", "--queue works with --all", { hint: "leave out --tenant, or --queue" });
  if (size !== undefined && !isQueued)
    throw new JBackupError("usage", "--batch works with --queue", { hint: "leave out --batch" });
  const later = laterIn(options, context.clock.now());
  if (later !== null)
    return storeForLater(context, "backup tenant", options, later, (site) => checkLater(site, isAll, named));
  return withSite(context, async (site) => {
    const startedAt = site.clock.monotonicMs();
    const how = {
      note: textFlag(options, "note") ?? null,
      acceptShrunken: isSet(options, "acceptShrunken"),
    };
    const done = isQueued
      ? await orderTenants(site, { ...how, size: size ?? BATCH })
      : await backupTenants(site, { ...how, tenants: isAll ? "all" : named });
    const [only] = done.backups;
    const isOne = !isAll && new Set(named).size === 1;
    if (isOne && only === undefined) throw failureOf(done);
    const ms = site.clock.monotonicMs() - startedAt;
    const more = await withConfig(site, options);
    const sums = sumUp(done.backups);
    const text = isOne && only !== undefined ? oneText(only) : allText(done, sums, ms);
    context.output.answer(
      more.answer(isOne && only !== undefined ? only : done),
      [text, ...more.lines].join("\n"),
    );
    if (done.status === "failed") return 1;
    return more.exit(done.status === "partial" || sums.missing.size > 0 ? 3 : 0);
  });
};

async function checkLater(site: Site, isAll: boolean, named: string[]): Promise<void> {
  tenantSettings(site);
  if (isAll) return;
  try {
    await requireTenants(site, named);
  } catch (error) {
    if (!isJBackupError(error, "postgres_unreachable")) throw error;
    site.report.warn(`${error.message}; whether there are such tenants is seen when it runs`);
  }
}

const missingIn = ({ copies }: Backup): string[] =>
  copies.filter(({ status }) => status !== "stored").map(({ storage }) => storage);

const isIncomplete = (backup: Backup): boolean => missingIn(backup).length > 0;

const failureOf = ({ failed }: TenantsBackup): JBackupError =>
  new JBackupError("verification_failed", failed[0]?.error ?? "the tenant was not backed up", {
    hint: "its last good backup stays the last one; --accept-shrunken takes a tenant that really shrank",
  });

const oneText = (backup: Backup): string =>
  [
    `${backup.label} ${isIncomplete(backup) ? "is stored, but not everywhere" : "is complete"}`,
    typeof backup.metadata.sameAs === "string"
      ? "  size    unchanged since its last backup, whose objects it refers to"
      : `  size    ${sizesText(backup)}`,
    `  copies  ${copiesText(backup)}`,
    `Next: jbackup show ${backup.label}`,
  ].join("\n");

const SHOWN_FAILURES = 20;

interface Sums {
  rawBytes: number;
  storedBytes: number;
  /** How many are unchanged. */
  same: number;
  /** Storages that lack a copy. */
  missing: Set<string>;
}

/** One after the other: there may be many thousands. */
function sumUp(backups: Iterable<Backup>): Sums {
  const sums: Sums = { rawBytes: 0, storedBytes: 0, same: 0, missing: new Set() };
  for (const backup of backups) {
    sums.rawBytes += backup.rawBytes;
    sums.storedBytes += backup.storedBytes;
    if (typeof backup.metadata.sameAs === "string") sums.same++;
    for (const storage of missingIn(backup)) sums.missing.add(storage);
  }
  return sums;
}

function allText({ backups, failed }: TenantsBackup, sums: Sums, ms: number): string {
  const missing = [...sums.missing];
  const perSecond = ms > 0 ? Math.round((backups.length * 1000) / ms) : 0;
  return [
    `${countedText(backups.length, "tenant")} backed up${failed.length === 0 ? "" : `, ${countText(failed.length)} not`}`,
    `  size    ${bytesText(sums.rawBytes)} of rows, ${bytesText(sums.storedBytes)} stored anew`,
    `  same    ${countedText(sums.same, "tenant")} unchanged since the last backup`,
    `  time    ${durationText(ms)} (${countText(perSecond)} tenants a second)`,
    ...failed.slice(0, SHOWN_FAILURES).map(({ tenantId, error }) => `  failed  ${tenantId}: ${error}`),
    ...(failed.length > SHOWN_FAILURES
      ? [`  failed  and ${countText(failed.length - SHOWN_FAILURES)} more`]
      : []),
    ...(missing.length === 0 ? [] : [`  copies  missing in ${missing.join(", ")}`]),
    failed.length === 0
      ? missing.length === 0
        ? "Next: jbackup list --kind tenant"
        : `Next: jbackup storages check, for ${missing.join(", ")}; the next backup fills the gap`
      : "Next: jbackup list --kind tenant --status failed",
  ].join("\n");
}
