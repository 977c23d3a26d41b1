/** What the sealed contents of a physical backup say about the cluster: enough to bring it back without asking anybody. */
export interface PhysicalFacts {
  format: 1;
  /** The key of the fingerprints of this backup's chain, in base64. */
  fingerprintKey: string;
  /** The ids of the older backups that extents refer to: source n of an extent is sources[n - 1]. */
  sources: string[];
  server: { version: string; versionNum: number; major: number; systemId: string };
  /** The role that initdb made (oid 10): whom to connect as when the cluster is back. */
  superuser: string;
  timeline: number;
  startLsn: string;
  endLsn: string;
  /** The times at which the server said that the backup began and ended. */
  startTime: string;
  endTime: string;
  takenOn: "primary" | "standby";
  /** How the files were read. */
  reader: "files" | "stream";
  walSegmentBytes: number;
  hasPageChecksums: boolean;
  backupLabel: string;
  tablespaces: { oid: string; name: string; location: string }[];
  /** What a server needs at least in order to replay the WAL: max_connections and the like, as the server showed them. */
  settings: Record<string, string>;
  /** Whether postgresql.conf stood inside the data directory. */
  hasOwnConfiguration: boolean;
  files: number;
  bytes: number;
  damagedPages: { path: string; block: number }[];
}
