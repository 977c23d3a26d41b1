import type { StorageKind } from "../domain/backup.js";

/**
 * A body that can be read more than once, from any offset: that is what lets a put be retried, resumed
 * and cut into parts without holding on to a stream.
 */
export interface ObjectBody {
  readonly bytes: number;
  /** SHA-256 of the whole body in hex. */
  readonly sha256: string;
  /** Bytes from `start` up to, not including, `end`. */
  read(start: number, end: number): AsyncIterable<Uint8Array>;
}

export interface ObjectFacts {
  key: string;
  bytes: number;
  modifiedAt: Date;
}

export interface ByteRange {
  start: number;
  /** Not included. */
  end: number;
}

export interface PutOptions {
  /** Replace an existing object atomically. Only manifests (re-wrapped keys) and site markers may do so. */
  replace?: boolean;
  signal?: AbortSignal;
  /** The key was made for this object and nobody can have it: saves the look beforehand. A second try of the same is fine. */
  isFresh?: boolean;
  /** The caller finds it in a list before he relies on it: saves the look afterwards. */
  isListedLater?: boolean;
}

export interface GetOptions {
  range?: ByteRange;
  signal?: AbortSignal;
}

export interface StorageSpace {
  freeBytes: number;
  totalBytes: number;
}

/**
 * A named place for write-once objects. Keys are relative paths: `a/b/c`, [A-Za-z0-9._-] between slashes.
 *
 * Errors are JBackupErrors: object_missing, object_exists, object_truncated (shorter than the range asked for),
 * object_corrupt (a body that is not what it claims to be), storage_denied (permanent, never retried blindly), storage_full
 * (permanent), not_found (no such bucket or directory: never mistaken for an empty storage), storage_unavailable (may pass;
 * `details.retryAfterMs` when the server said how long). Each names the storage and the key. An abort rejects with its reason.
 */
export interface Storage {
  readonly name: string;
  readonly kind: StorageKind;
  /** Where it is, for people: a path, or bucket and prefix. Holds no secret. */
  readonly location: string;

  /**
   * Stores the body under the key, durably, all or nothing: until it resolves no reader sees the key; after a rejection
   * or an abort nothing is visible under it (unless another writer finished, or the answer was lost after the server had
   * stored it: then it is the whole body). Idempotent: the same body again is fine.
   * Another body under an existing key is refused with object_exists, unless `replace`.
   */
  put(key: string, body: ObjectBody, options?: PutOptions): Promise<void>;

  /** The object's bytes, or those of the range. Rejects with object_missing before the first byte, never yields less than asked. */
  get(key: string, options?: GetOptions): AsyncIterable<Uint8Array>;

  /** Size and time, or undefined when there surely is no such object (any doubt is an error). */
  stat(key: string): Promise<ObjectFacts | undefined>;

  /**
   * Every object whose key starts with the prefix, ordered by key; with `after` only those behind that key. A listing that
   * fails half-way throws: it never just ends.
   */
  list(prefix: string, after?: string): AsyncIterable<ObjectFacts>;

  /** Removes the object. No error when it is not there. */
  delete(key: string): Promise<void>;

  /** Ends what an earlier, killed run left half-done below the prefix (temporary files, multipart uploads) and is older than `olderThanMs`; answers how many. */
  sweep(prefix: string, olderThanMs: number): Promise<number>;

  /** Free bytes where the storage knows it. */
  freeBytes?(): Promise<number | undefined>;

  /** What is free and what can be used in all, where the storage knows it. */
  space?(): Promise<StorageSpace | undefined>;

  close(): Promise<void>;
}
