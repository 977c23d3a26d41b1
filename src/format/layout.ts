import type { SealContext } from "./header.js";

/** Where the parts of a backup stand inside its folder. */
export interface BackupContext {
  site: string;
  backupId: string;
  tenantId: string | null;
}

export const MANIFEST_NAME = "manifest.json";
export const CONTENTS_NAME = "contents.jbk";

export const packName = (number: number): string => `data/${String(number).padStart(6, "0")}.jbk`;

export const packContext = ({ site, backupId, tenantId }: BackupContext, name: string): SealContext => ({
  site,
  backupId,
  role: "data",
  tenantId,
  name,
});

export const contentsContext = ({ site, backupId, tenantId }: BackupContext): SealContext => ({
  site,
  backupId,
  role: "contents",
  tenantId,
  name: CONTENTS_NAME,
});
