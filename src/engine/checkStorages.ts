import { reasonOf } from "../domain/errors.js";
import type { Site } from "./site.js";
import { requireStorage } from "./useStorages.js";

export interface StorageCheck {
  storage: string;
  kind: string;
  location: string;
  ok: boolean;
  checks: { name: string; status: "ok" | "failed"; durationMs: number; error?: string }[];
}

/** Runs the storage contract live, in a corner of each storage (or of those named) that is removed again. */
export async function checkStorages(site: Site, names: string[]): Promise<StorageCheck[]> {
  for (const name of names) requireStorage(site, name);
  const opened = await site.storages();
  return Promise.all(
    opened
      .filter(({ name }) => names.length === 0 || names.includes(name))
      .map(async (entry): Promise<StorageCheck> => {
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
