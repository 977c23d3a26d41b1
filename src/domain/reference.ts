import type { Backup } from "./backup.js";
import { JBackupError } from "./errors.js";
import { compactTime } from "./time.js";

export const labelOf = (kind: Backup["kind"], at: Date, tenantId: string | null = null): string =>
  tenantId === null ? `${kind}-${compactTime(at)}` : `${kind}-${tenantId}-${compactTime(at)}`;

/** A tenant's id as one part of a path: what is no letter, digit, dot, dash or underscore becomes _ and two hex digits. */
export const pathPart = (tenantId: string): string =>
  tenantId.replace(/^\.+$|_(?=[0-9A-F]{2})|[^A-Za-z0-9._-]/gu, (found) =>
    [...new TextEncoder().encode(found)]
      .map((byte) => `_${byte.toString(16).toUpperCase().padStart(2, "0")}`)
      .join(""),
  );

/** What every kind of storage takes as one part of a path. */
const LONGEST_PART = 200;

/** Why nothing can be stored under this id, in words that follow its name; null when it can. */
export function idProblem(tenantId: string): string | null {
  if (tenantId === "") return "an empty id names no folder";
  if (/\p{Cc}/u.test(tenantId)) return "its id has control characters, which no label can hold";
  const { length } = pathPart(tenantId);
  if (length <= LONGEST_PART) return null;
  return `its id takes ${length} characters as the name of a folder, and ${LONGEST_PART} are the most`;
}

const fromPathPart = (part: string): string =>
  new TextDecoder().decode(
    Uint8Array.from(
      part
        .split(/(_[0-9A-F]{2})/)
        .flatMap((piece) =>
          /^_[0-9A-F]{2}$/.test(piece)
            ? [Number.parseInt(piece.slice(1), 16)]
            : [...piece].map((letter) => letter.charCodeAt(0)),
        ),
    ),
  );

/** The backup's folder inside every storage. */
export function folderOf(kind: Backup["kind"], id: string, at: Date, tenantId: string | null = null): string {
  const month = `${at.getUTCFullYear()}/${String(at.getUTCMonth() + 1).padStart(2, "0")}`;
  return ["backups", kind, ...(tenantId === null ? [] : [pathPart(tenantId)]), month, id].join("/");
}

const MANIFEST_KEY = /^backups\/(full|config|tenant\/[^/]+)\/\d{4}\/\d\d\/([0-9a-f-]{36})\/manifest\.json$/;

/** What a manifest's place says: the folder and the id that the manifest itself must confirm. */
export function parseManifestKey(
  key: string,
): { folder: string; id: string; kind: Backup["kind"]; tenantId: string | null } | null {
  const match = MANIFEST_KEY.exec(key);
  if (!match?.[1] || !match[2]) return null;
  const [kind, tenantId] = match[1].split("/");
  return {
    folder: key.slice(0, -"/manifest.json".length),
    id: match[2],
    kind: kind as Backup["kind"],
    tenantId: tenantId === undefined ? null : fromPathPart(tenantId),
  };
}

/** The one backup that a reference means: an exact id or label, else a unique beginning of either. */
export function pickOne<Found extends { id: string; label: string }>(
  reference: string,
  found: readonly Found[],
): Found | null {
  if (reference === "")
    throw new JBackupError("usage", "the name of the backup is empty", {
      hint: "give an id, a label, the beginning of either, or latest",
    });
  const exact = found.filter((backup) => backup.id === reference || backup.label === reference);
  const matches =
    exact.length > 0
      ? exact
      : found.filter((backup) => backup.id.startsWith(reference) || backup.label.startsWith(reference));
  if (matches.length <= 1) return matches[0] ?? null;
  const areNamesakes = matches.every(({ label }) => label === matches[0]?.label);
  const shown = matches.slice(0, 4).map((backup) => `${backup.label} (${backup.id})`);
  throw new JBackupError(
    "ambiguous",
    `"${reference}" means ${matches.length} backups: ${shown.join(", ")}${matches.length > 4 ? ", ..." : ""}`,
    {
      hint: areNamesakes
        ? "they began in the same second and share a label: give the id"
        : "give more characters of the label or of the id",
    },
  );
}

export const noSuchBackup = (reference: string, kind: "full" | "config" = "full"): JBackupError =>
  new JBackupError(
    "not_found",
    reference === "latest"
      ? `there is no ${kind === "full" ? "" : "config "}backup yet`
      : `there is no backup "${reference}"`,
    {
      hint:
        reference === "latest" ? `make one with jbackup backup ${kind}` : "jbackup list shows what there is",
    },
  );
