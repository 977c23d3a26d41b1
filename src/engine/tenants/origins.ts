import { JBackupError, reasonOf } from "../../domain/errors.js";
import type { TimelineWish } from "../../domain/recoveryTarget.js";
import type { TenantFacts } from "../../domain/tenantBackup.js";
import { exportTenants } from "../backupTenants.js";
import { type FoundBackup, findBackup } from "../findBackup.js";
import { type OpenedBackup, openBackup } from "../openBackup.js";
import { isOutOfReach, newerTexts } from "../passedOver.js";
import type { RunContext } from "../run.js";
import type { Site } from "../site.js";
import { exportedBefore, rulesInForce } from "./exportedBefore.js";
import { newestOfTenant } from "./newest.js";
import { preparePast } from "./past.js";

/** A tenant's backup, opened. */
export interface TenantOrigin {
  found: FoundBackup;
  opened: OpenedBackup;
  facts: TenantFacts;
  /** An unchanged tenant's backup is read from an older one, which was read elsewhere: this is its own. */
  source: TenantFacts["source"];
  /** Of the WAL that led to the moment; null without any. */
  timeline: number | null;
  /** About that moment. */
  warnings: string[];
}

export interface FoundOrigins {
  origins: TenantOrigin[];
  /** Tenants whose rows cannot be had; the others do not suffer for it. */
  failed: { tenantId: string; error: string }[];
}

export interface OriginWish {
  reference: string;
  /** A moment of the past; null: the backup as it is. */
  to: string | null;
  /** Of the WAL to that moment; without it the one that was in force then. */
  timeline?: TimelineWish | undefined;
  tenants: string[];
}

/** How long each part of getting there took. */
export interface OriginTimes {
  broughtUpMs?: number;
  exportedMs?: number;
}

/**
 * Wherever the rows come from, they come from a tenant's own backup: out of a full one, or out of a moment of the past, it is
 * made first. It stays, so that a second try need not go there again.
 */
export async function tenantOrigins(
  site: Site,
  run: RunContext,
  { reference, to, timeline, tenants }: OriginWish,
  times: OriginTimes,
): Promise<FoundOrigins> {
  if (to === null && reference === "latest")
    return eachAlone(site, tenants, async (id) => openTenant(site, await newestOfTenant(site, id), id));
  if (to === null) {
    const found = await findBackup(site, reference);
    if (found.manifest.body.kind === "tenant")
      return { origins: [await openTenant(site, found, onlyOne(tenants))], failed: [] };
  }
  return fromPast(site, run, { reference, to, timeline, tenants }, times);
}

const onlyOne = (tenants: string[]): string => {
  const [only, second] = tenants;
  if (only !== undefined && second === undefined) return only;
  throw new JBackupError("usage", "a tenant's backup brings back that tenant only", {
    hint: "name one --tenant, or leave the backup out: each tenant then comes from its own newest one",
  });
};

/** A backup that is damaged is one tenant's trouble; a tenant that nobody knows is a mistake of whoever asks, and nothing is begun. */
async function eachAlone(
  site: Site,
  tenants: string[],
  open: (id: string) => Promise<TenantOrigin>,
): Promise<FoundOrigins> {
  const found: FoundOrigins = { origins: [], failed: [] };
  for (const tenantId of tenants)
    try {
      found.origins.push(await open(tenantId));
    } catch (error) {
      site.signal.throwIfAborted();
      if (tenants.length === 1 || !isDamage(error)) throw error;
      found.failed.push({ tenantId, error: reasonOf(error) });
    }
  return found;
}

const isDamage = (error: unknown): boolean =>
  error instanceof JBackupError &&
  (error.exitCode === 4 || error.code === "object_missing" || isOutOfReach(error));

async function openTenant(site: Site, found: FoundBackup, tenantId: string): Promise<TenantOrigin> {
  const { body } = found.manifest;
  if (body.tenantId !== tenantId)
    throw new JBackupError(
      "usage",
      `${body.label} is a backup of tenant ${body.tenantId}, not of ${tenantId}`,
      {
        hint: `add --tenant ${body.tenantId}, and --as-tenant ${tenantId} to bring it back as that one`,
      },
    );
  const opened = await openBackup(site, found);
  const facts = opened.contents.detail.tenant as TenantFacts | undefined;
  if (facts === undefined || facts.id !== tenantId)
    throw new JBackupError("manifest_foreign", `${body.label} does not hold tenant ${tenantId}`, {
      hint: "nothing was changed; find out who made this backup, and choose another one",
    });
  const source = (body.metadata.source as TenantFacts["source"] | undefined) ?? facts.source;
  return { found, opened, facts, source, timeline: null, warnings: newerTexts(found) };
}

async function fromPast(
  site: Site,
  run: RunContext,
  { tenants, ...moment }: OriginWish,
  times: OriginTimes,
): Promise<FoundOrigins> {
  const past = await preparePast(site, moment);
  for (const warning of past.warnings) site.report.warn(warning);
  const known = await exportedBefore(site, past, tenants);
  const missing = tenants.filter((id) => !known.has(id));
  const failed: FoundOrigins["failed"] = [];
  if (missing.length > 0) {
    const made = await past.visit(async ({ postgres, moment, broughtUpMs, backup }) => {
      times.broughtUpMs = Math.round(broughtUpMs);
      const startedAt = site.clock.monotonicMs();
      const { backupId } = backup.manifest.body;
      const source = { kind: "backup" as const, backupId, moment, rules: rulesInForce(site) };
      const done = await exportTenants(
        site,
        run,
        { tenants: missing, note: `as of ${moment}`, acceptShrunken: true },
        { postgres, source, parentId: backupId },
      );
      times.exportedMs = Math.round(site.clock.monotonicMs() - startedAt);
      return done;
    });
    for (const { id, tenantId } of made.backups) if (tenantId !== null) known.set(tenantId, id);
    for (const { tenantId, error } of made.failed)
      failed.push({ tenantId, error: `it could not be read as of ${past.moment}: ${error}` });
    if (known.size === 0)
      throw new JBackupError(
        "verification_failed",
        failed.map(({ tenantId, error }) => `tenant ${tenantId}: ${error}`).join("; "),
        { hint: "nothing was changed; choose another moment, or settle what jbackup tenants coverage shows" },
      );
  }
  const found = await eachAlone(
    site,
    tenants.filter((id) => known.has(id)),
    async (id) => openTenant(site, await findBackup(site, known.get(id) ?? ""), id),
  );
  const { timeline, warnings } = past;
  const origins = found.origins.map((origin) => ({ ...origin, timeline, warnings }));
  return { origins, failed: [...failed, ...found.failed] };
}
