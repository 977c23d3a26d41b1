import type { FileDifference } from "./configBackup.js";

export interface ConfigRequest {
  /** An id, a label, the beginning of either; `latest` is the newest config backup. */
  reference: string;
  /** A new folder; null: every file at its own place on this host. */
  directory: string | null;
  /** Only these paths of the backup and what lies below them; all when empty. */
  paths: string[];
  reason: string;
}

/** What will be done; the dry run prints it, the real run follows it. */
export interface ConfigPlan {
  backupId: string;
  label: string;
  createdAt: string;
  mode: "full";
  way: "directory" | "in-place";
  target: string;
  /** The host's name, when files of it would be overwritten. */
  overwrites: string | null;
  /** The host that it was taken on. */
  host: string;
  steps: string[];
  rawBytes: number;
  storages: string[];
  warnings: string[];
  /** In place: path by path. */
  files: FileDifference[];
}
