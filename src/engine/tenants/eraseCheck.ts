import type { Backup } from "../../domain/backup.js";
import { parseDuration } from "../../domain/time.js";
import type { Site } from "../site.js";

export interface HoldingBackup {
  id: string;
  label: string;
  kind: Backup["kind"];
  createdAt: string;
  storages: string[];
  /** When the last copy goes by the age that retention names; null: nothing says when. */
  until: string | null;
}

export interface EraseCheck {
  tenantId: string;
  holdsData: boolean;
  backups: HoldingBackup[];
  /** When the last of them is gone, if that is known of all. */
  until: string | null;
}

/** Backups that still hold a tenant's rows: its own, and every full one, which holds everybody's. */
export async function eraseCheck(site: Site, tenantId: string): Promise<EraseCheck> {
  const usable: Backup["status"][] = ["completed", "verified"];
  const own = await site.catalog.backups({ kind: "tenant", status: usable, tenantId });
  const full = await site.catalog.backups({ kind: "full", status: usable });
  const holding = [...own, ...full]
    .map((backup): HoldingBackup => {
      const storages = backup.copies
        .filter(({ status }) => status !== "removed")
        .map(({ storage }) => storage);
      const { id, label, kind, createdAt } = backup;
      return { id, label, kind, createdAt, storages, until: untilOf(site, createdAt, storages) };
    })
    .filter(({ storages }) => storages.length > 0);
  const times = holding.map(({ until }) => until);
  return {
    tenantId,
    holdsData: holding.length > 0,
    backups: holding,
    until: times.length === 0 || times.includes(null) ? null : (times.sort().at(-1) ?? null),
  };
}

/** Only an age alone says when: numbers of daily or monthly ones depend on what comes after. */
function untilOf(site: Site, createdAt: string, storages: string[]): string | null {
  const ends = storages.map((name) => {
    const policy = site.config.retention.perStorage[name];
    if (policy?.within === undefined || Object.keys(policy).length > 1) return null;
    const ms = parseDuration(policy.within);
    return ms === null ? null : new Date(Date.parse(createdAt) + ms).toISOString();
  });
  return ends.includes(null) ? null : ((ends as string[]).sort().at(-1) ?? null);
}
