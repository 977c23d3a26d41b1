import { randomBytes } from "node:crypto";
import type { StorageConfig } from "../domain/config.js";
import { isJBackupError } from "../domain/errors.js";
import type { ProbedRights, Right } from "../domain/rights.js";
import { bytesBody, readAll } from "./body.js";
import { LocalStorage } from "./local.js";
import { type OpenOptions, openBare } from "./open.js";
import type { ObjectBody } from "./storage.js";

/** They differ: the second is what an overwriting would put there. */
export const PROBE_CONTENTS: readonly [Buffer, Buffer] = [
  Buffer.from("jbackup was here to see what its credentials may do: 1\n"),
  Buffer.from("jbackup was here to see what its credentials may do: 2\n"),
];
export const probeBody = (nth: 0 | 1): ObjectBody => bytesBody([PROBE_CONTENTS[nth]]);

export const NOT_TRIED: Omit<ProbedRights, "write"> = {
  read: "unknown",
  list: "unknown",
  overwrite: "unknown",
  delete: "unknown",
  deleteVersion: "unknown",
  listOutside: "unknown",
  versioning: "unknown",
  objectLock: "unknown",
  left: [],
};

/** Among the backups, because a rule that protects those must protect this; what is left there, cleanup sweeps. */
const probeKey = (): string => `backups/check-${randomBytes(8).toString("hex")}/probe`;

/**
 * Tries for real what these credentials can do, on an object of its own, and takes it away again as far as it can.
 * Rejects with a storage's usual failures when it cannot be asked at all.
 */
export async function probeRights(config: StorageConfig, options: OpenOptions): Promise<ProbedRights> {
  const key = probeKey();
  switch (config.kind) {
    case "local":
      return probeLocal(new LocalStorage(config, options.clock), key);
    case "s3":
      return (await import("./rightsS3.js")).probeS3Rights(config, options, key);
    case "b2":
      return (await import("./rightsB2.js")).probeB2Rights(config, options, key);
  }
}

/** Removes what a probe left, with credentials that may: answers what is still there. */
export async function removeProbes(
  config: StorageConfig,
  keys: string[],
  options: OpenOptions,
): Promise<string[]> {
  const storage = await openBare(config, options);
  const left: string[] = [];
  try {
    for (const key of keys) if ((await tried(() => storage.delete(key))) !== "yes") left.push(key);
    return left;
  } finally {
    await storage.close();
  }
}

/** A refusal is an answer; anything else is a failure. */
export async function tried(deed: () => Promise<unknown>): Promise<Right> {
  try {
    await deed();
    return "yes";
  } catch (error) {
    if (isJBackupError(error, "storage_denied", "object_exists")) return "no";
    throw error;
  }
}

async function probeLocal(storage: LocalStorage, key: string): Promise<ProbedRights> {
  const write = await tried(() => storage.put(key, probeBody(0)));
  if (write !== "yes") return { write, ...NOT_TRIED };
  const read = await tried(() => readAll(storage, key, { maxBytes: 1_000 }));
  const overwrite = await tried(() => storage.put(key, probeBody(1), { replace: true }));
  const removed = await tried(() => storage.delete(key));
  return {
    ...NOT_TRIED,
    write,
    read,
    list: "yes",
    overwrite,
    delete: removed,
    versioning: "no",
    objectLock: "no",
    left: removed === "yes" ? [] : [key],
  };
}
