import type { BackupKind, BackupMethod } from "./backup.js";
import type { Codec } from "./config.js";

/** One write-once file of a backup. The name is relative to the backup's folder; the digest is of the stored bytes. */
export interface StoredObject {
  name: string;
  bytes: number;
  sha256: string;
}

/** An older backup whose objects are part of this one; its own manifest opens its key. */
export interface NeededBackup {
  backupId: string;
  /** The folder of the older backup, the same in every storage. */
  folder: string;
  objects: StoredObject[];
}

/** What the site signs: enough to check every copy without any key, and to restore without the catalog. */
export interface ManifestBody {
  format: 1;
  site: string;
  backupId: string;
  label: string;
  kind: BackupKind;
  method: BackupMethod | null;
  tenantId: string | null;
  /** Manifests of a site form a chain: a number that grows, and the digest of the body before. */
  sequence: number;
  previousDigest: string | null;
  createdAt: string;
  finishedAt: string;
  createdBy: string;
  jobId: string;
  tool: { name: "jbackup"; version: string };
  server: { version: string; versionNum: number; systemId: string | null } | null;
  timeline: number | null;
  startLsn: string | null;
  endLsn: string | null;
  parentId: string | null;
  keyCommitment: string;
  codec: Codec;
  rawBytes: number;
  storedBytes: number;
  objects: StoredObject[];
  /** Objects of older backups that this one reads as well. */
  needs?: NeededBackup[];
  note: string | null;
  warnings: string[];
  metadata: Record<string, unknown>;
}

/** The backup's data key, sealed for one recipient. */
export type WrappedKey =
  | { kind: "x25519"; recipient: string; ephemeral: string; sealed: string }
  | { kind: "scrypt"; salt: string; n: number; r: number; p: number; sealed: string };

/** As read from a storage: nothing in it may be believed yet. */
export interface RawManifest {
  body: unknown;
  keys: unknown;
  signature: unknown;
  keysSignature?: unknown;
}

/** Signed by whoever sealed the keys, at that time: of two sets of keys that are signed, the later one is right. */
export interface KeysSignature {
  signer: string;
  value: string;
  at: string;
}

/** Checked: the signature is by a trusted signer and the body has the expected shape. */
export interface Manifest {
  body: ManifestBody;
  keys: WrappedKey[];
  signature: { signer: string; value: string };
  /** SHA-256 of the canonical body, in hex. */
  digest: string;
  /** Early versions did not sign the keys. Changed: their signature is none, or not of a trusted signer over them. */
  keysAre: "signed" | "unsigned" | "changed";
  /** When the keys were sealed; null unless they are signed. */
  keysSince: string | null;
  /** Names the keys: alike in two copies that hold the same keys for the same body. */
  keysDigest: string;
}

/** A run of bytes inside one object's opened content. */
export interface Segment {
  object: string;
  offset: number;
  bytes: number;
}

/** One named stream of a backup (a dump, the globals, a file), laid out over objects. */
export interface Entry {
  name: string;
  bytes: number;
  /** SHA-256 of the opened bytes. */
  sha256: string;
  segments: Segment[];
}

/** The sealed part of a backup's description: what a stranger must not see. */
export interface Contents {
  format: 1;
  entries: Entry[];
  detail: Record<string, unknown>;
}
