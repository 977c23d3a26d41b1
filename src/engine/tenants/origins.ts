import { JBackupError } from "../../domain/errors.js";
import type { TenantFacts } from "../../domain/tenantBackup.js";
import { exportTenants } from "../backupTenants.js";
import { type FoundBackup, findBackup } from "../findBackup.js";
import { type OpenedBackup, openBackup } from "../openBackup.js";
import type { RunContext } from "../run.js";
import type { Site } from "../site.js";
import { newestOfTenant } from "./newest.js";
import { preparePast } from "./past.js";

/** A tenant's backup, opened. */
export interface TenantOrigin {
  found: FoundBackup;
  opened: OpenedBackup;
  facts: TenantFacts;
}

export interface OriginWish {
  reference: string;
  /** A moment of the past; null: the backup as it is. */
  to: string | null;
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
  { reference, to, tenants }: OriginWish,
  times: OriginTimes,
): Promise<TenantOrigin[]> {
  if (to === null && reference === "latest")
    return Promise.all(tenants.map(async (id) => openTenant(site, await newestOfTenant(site, id), id)));
  if (to === null) {
    const found = await findBackup(site, reference);
    if (found.manifest.body.kind === "tenant") return [await openTenant(site, found, onlyOne(tenants))];
  }
  return fromPast(site, run, { reference, to, tenants }, times);
}

const onlyOne = (tenants: string[]): string => {
  const [only, second] = tenants;
  if (only !== undefined && second === undefined) return only;
  throw new JBackupError("usage", "a tenant's backup brings back that tenant only", {
    hint: "name one --tenant, or leave the backup out: each tenant then comes from its own newest one",
  });
};

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
  return { found, opened, facts };
}

async function fromPast(
  site: Site,
  run: RunContext,
  { reference, to, tenants }: OriginWish,
  times: OriginTimes,
): Promise<TenantOrigin[]> {
  const past = await preparePast(site, reference, to);
  const made = await past.visit(async ({ postgres, moment, broughtUpMs, backup }) => {
    times.broughtUpMs = Math.round(broughtUpMs);
    const startedAt = site.clock.monotonicMs();
    const { backupId } = backup.manifest.body;
    const done = await exportTenants(
      site,
      run,
      { tenants, note: `as of ${moment}`, acceptShrunken: true },
      { postgres, source: { kind: "backup", backupId, moment }, parentId: backupId },
    );
    times.exportedMs = Math.round(site.clock.monotonicMs() - startedAt);
    return done;
  });
  const [failure] = made.failed;
  if (failure !== undefined)
    throw new JBackupError(
      "verification_failed",
      `tenant ${failure.tenantId} could not be read as of ${past.moment}: ${failure.error}`,
    );
  return Promise.all(
    tenants.map(async (id) => {
      const backup = made.backups.find(({ tenantId }) => tenantId === id);
      if (backup === undefined) throw new JBackupError("bug", `tenant ${id} was not exported`);
      return openTenant(site, await findBackup(site, backup.id), id);
    }),
  );
}
