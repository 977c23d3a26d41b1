import { reasonOf } from "../domain/errors.js";
import type { Site } from "./site.js";

export interface StorageCheck {
  storage: string;
  kind: string;
  location: string;
  ok: boolean;
  checks: { name: string; status: "ok" | "failed"; durationMs: number; error?: string }[];
}

/** Runs the storage contract live, in a corner of each storage that is removed again. */
export async function checkStorages(site: Site): Promise<StorageCheck[]> {
  return Promise.all(
    (await site.storages()).map(async (entry): Promise<StorageCheck> => {
      const { name, kind } = entry;
      if (entry.storage === null) {
        const check = {
          name: "open",
          status: "failed" as const,
          durationMs: 0,
          error: reasonOf(entry.error),
        };
        return { storage: name, kind, location: "", ok: false, checks: [check] };
      }
      const { checks } = await site.storage.checkStorage(entry.storage, site.clock);
      const ok = checks.every(({ status }) => status === "ok");
      return { storage: name, kind, location: entry.storage.location, ok, checks };
    }),
  );
}
