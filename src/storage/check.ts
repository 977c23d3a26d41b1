import { randomBytes } from "node:crypto";
import { reasonOf } from "../domain/errors.js";
import { type Clock, systemClock } from "../sys/clock.js";
import { storageContract } from "./contract.js";
import type { Storage } from "./storage.js";

export interface CheckedStorage {
  storage: string;
  checks: { name: string; status: "ok" | "failed"; durationMs: number; error?: string }[];
}

/** Runs the whole contract on a live storage, in a folder of its own that it removes again. */
export async function checkStorage(storage: Storage, clock: Clock = systemClock): Promise<CheckedStorage> {
  const folder = `jbackup-check/${randomBytes(8).toString("hex")}/`;
  const checks: CheckedStorage["checks"] = [];
  const timed = async (name: string, work: () => Promise<void>): Promise<void> => {
    const startedMs = clock.monotonicMs();
    const error = await work().then(
      () => undefined,
      (failure: unknown) => reasonOf(failure),
    );
    const durationMs = Math.round(clock.monotonicMs() - startedMs);
    checks.push({
      name,
      status: error === undefined ? "ok" : "failed",
      durationMs,
      ...(error === undefined ? {} : { error }),
    });
  };
  for (const [index, check] of storageContract().entries()) {
    await timed(check.name, () => check.run(storage, `${folder}${index}/`));
  }
  await timed("removes what the check has stored", () => removeAll(storage, folder));
  return { storage: storage.name, checks };
}

async function removeAll(storage: Storage, folder: string): Promise<void> {
  const keys: string[] = [];
  for await (const { key } of storage.list(folder)) keys.push(key);
  for (const key of keys) await storage.delete(key);
  await storage.sweep(folder, 0);
}
