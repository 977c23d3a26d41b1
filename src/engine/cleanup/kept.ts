import type { KeptBackup, RetentionPolicy } from "../../domain/retention.js";
import { parseDuration } from "../../domain/time.js";
import type { ObjectFacts } from "../../storage/storage.js";
import type { Site } from "../site.js";
import type { SurveyedBackup } from "../verify/survey.js";

/** Null: the storage keeps everything. */
export function policyOf(site: Site, storage: string): RetentionPolicy | null {
  const given = site.config.retention.perStorage[storage];
  if (given === undefined) return null;
  const { within, ...counts } = given;
  return { ...counts, withinMs: within === undefined ? undefined : (parseDuration(within) ?? undefined) };
}

/** A backup as the rules of retention see it. */
export const keptBackup = (
  { id, body }: Pick<SurveyedBackup, "id" | "body">,
  isGood: boolean,
): KeptBackup => ({
  id,
  kind: body.kind,
  method: body.method,
  tenantId: body.tenantId,
  createdAt: new Date(body.createdAt),
  endedAt: new Date(body.endTime ?? body.finishedAt),
  timeline: body.timeline,
  needs: body.needs.map(({ backupId }) => backupId),
  isGood,
  isAside: body.kind === "tenant" && body.parentId !== null,
});

/** Every object that it is made of is listed at its size, those of older backups too. */
export function isWhole({ folder, body }: SurveyedBackup, listed: Map<string, ObjectFacts>): boolean {
  const parts = [{ folder, objects: body.objects }, ...body.needs];
  return parts.every((part) =>
    part.objects.every(({ name, bytes }) => listed.get(`${part.folder}/${name}`)?.bytes === bytes),
  );
}

/** By what the last verification saw in the bytes themselves: of a backup, or of one that it is built on. */
export function knownBadIn(backups: SurveyedBackup[], storage: string): (backup: SurveyedBackup) => boolean {
  const bad = new Set(
    backups
      .filter(({ record }) =>
        record?.copies.some((copy) => copy.storage === storage && copy.status === "damaged"),
      )
      .map(({ id }) => id),
  );
  return ({ id, body }) => bad.has(id) || body.needs.some(({ backupId }) => bad.has(backupId));
}
