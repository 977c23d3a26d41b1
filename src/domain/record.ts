import type { Backup, Copy } from "./backup.js";
import type { ManifestBody } from "./manifest.js";

export const ratioOf = (rawBytes: number, storedBytes: number): number | null =>
  rawBytes > 0 && storedBytes > 0 ? Math.round((rawBytes / storedBytes) * 100) / 100 : null;

/** The catalog's record of a backup, from nothing but its manifest. */
export function recordOf(body: ManifestBody, digest: string, copies: Copy[]): Backup {
  return {
    id: body.backupId,
    label: body.label,
    kind: body.kind,
    method: body.method,
    tenantId: body.tenantId,
    status: "completed",
    createdAt: body.createdAt,
    finishedAt: body.finishedAt,
    durationMs: Date.parse(body.finishedAt) - Date.parse(body.createdAt),
    rawBytes: body.rawBytes,
    storedBytes: body.storedBytes,
    compressionRatio: ratioOf(body.rawBytes, body.storedBytes),
    checksum: digest,
    parentId: body.parentId,
    copies,
    note: body.note,
    createdBy: body.createdBy,
    jobId: body.jobId,
    warnings: body.warnings,
    metadata: { ...body.metadata, sequence: body.sequence, server: body.server },
  };
}
