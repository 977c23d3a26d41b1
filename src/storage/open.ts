import type { StorageConfig } from "../domain/config.js";
import type { Clock } from "../sys/clock.js";
import { withLimit } from "./limit.js";
import { LocalStorage } from "./local.js";
import { type RetryPolicy, withRetry } from "./retry.js";
import type { Storage } from "./storage.js";
import { DEFAULT_IDLE_MS, withWatchdog } from "./watchdog.js";

export interface OpenOptions {
  clock: Clock;
  retry?: Partial<RetryPolicy>;
  /** After so long without progress an attempt is given up. */
  idleMs?: number;
  /** Operations at a time. */
  concurrency?: number;
  partBytes?: number;
  pageSize?: number;
}

const CONCURRENCY = 8;

/** The storage as configured, ready for use: it retries, gives up what hangs, and keeps its own limits. */
export async function openStorage(config: StorageConfig, options: OpenOptions): Promise<Storage> {
  // Retries outermost, so that a pause holds no place; the watchdog innermost, so that a queue is no stall.
  const watched = withWatchdog(await openBare(config, options), options.idleMs ?? DEFAULT_IDLE_MS);
  return withRetry(withLimit(watched, options.concurrency ?? CONCURRENCY), options.retry ?? {}, options);
}

/** Without the wrappers. A site that keeps its backups on local disk only never loads an SDK. */
export async function openBare(config: StorageConfig, options: OpenOptions): Promise<Storage> {
  switch (config.kind) {
    case "local":
      return new LocalStorage(config, options.clock);
    case "s3":
      return (await import("./s3.js")).S3Storage.open(config, options);
    case "b2":
      return (await import("./b2.js")).B2Storage.open(config, options);
  }
}
