import { createHash } from "node:crypto";
import type { PhysicalFacts } from "../../domain/physical.js";

export interface ListedFile {
  path: string;
  size: number;
}

/** With these, a list names the cluster that it is of. */
const NAMES_SYSTEM_SINCE = 17;

/**
 * The list that pg_verifybackup checks a restored directory against: every file with its size, and the WAL that must be
 * there. The content needs no checksums in it: each block was authenticated when it was written.
 */
export function backupManifest(facts: PhysicalFacts, files: ListedFile[]): string {
  const isNewer = facts.server.major >= NAMES_SYSTEM_SINCE;
  const modified = `${facts.startTime.slice(0, 19).replace("T", " ")} GMT`;
  const listed = files.filter(({ path }) => !path.startsWith("pg_wal/") && path !== "postgresql.auto.conf");
  const body = [
    `{ "PostgreSQL-Backup-Manifest-Version": ${isNewer ? 2 : 1},`,
    ...(isNewer ? [`"System-Identifier": ${facts.server.systemId},`] : []),
    `"Files": [`,
    listed
      .map(({ path, size }) => JSON.stringify({ Path: path, Size: size, "Last-Modified": modified }))
      .join(",\n"),
    "],",
    `"WAL-Ranges": [`,
    JSON.stringify({
      Timeline: facts.timeline,
      "Start-LSN": facts.startLsn,
      "End-LSN": facts.endLsn,
    }),
    "],",
    "",
  ].join("\n");
  const checksum = createHash("sha256").update(body).digest("hex");
  return `${body}"Manifest-Checksum": "${checksum}"}\n`;
}
