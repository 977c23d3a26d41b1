import type { StorageKind } from "../domain/backup.js";
import type { GetOptions, ObjectBody, ObjectFacts, PutOptions, Storage, StorageSpace } from "./storage.js";

/** Passes everything on: what a wrapper does not care about stays as it is. */
export class WrappedStorage implements Storage {
  protected readonly inner: Storage;
  readonly name: string;
  readonly kind: StorageKind;
  readonly location: string;

  constructor(inner: Storage) {
    this.inner = inner;
    this.name = inner.name;
    this.kind = inner.kind;
    this.location = inner.location;
  }

  put(key: string, body: ObjectBody, options?: PutOptions): Promise<void> {
    return this.inner.put(key, body, options);
  }

  get(key: string, options?: GetOptions): AsyncIterable<Uint8Array> {
    return this.inner.get(key, options);
  }

  stat(key: string): Promise<ObjectFacts | undefined> {
    return this.inner.stat(key);
  }

  list(prefix: string, after?: string): AsyncIterable<ObjectFacts> {
    return this.inner.list(prefix, after);
  }

  delete(key: string): Promise<void> {
    return this.inner.delete(key);
  }

  sweep(prefix: string, olderThanMs: number): Promise<number> {
    return this.inner.sweep(prefix, olderThanMs);
  }

  async freeBytes(): Promise<number | undefined> {
    return this.inner.freeBytes?.();
  }

  async space(): Promise<StorageSpace | undefined> {
    return this.inner.space?.();
  }

  close(): Promise<void> {
    return this.inner.close();
  }
}
