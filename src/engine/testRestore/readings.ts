import type { TestReport } from "../../domain/testReport.js";
import type { Storage } from "../../storage/storage.js";
import type { OpenedStorage, Site } from "../site.js";

interface Tally {
  objects: number;
  bytes: number;
}

export interface Readings {
  /** The same site, whose reading is counted and whose warnings are kept. */
  site: Site;
  warnings: string[];
  /** What was read of backups and WAL, storage by storage; of those that could not be opened, nothing was. */
  storages(): Promise<TestReport["storages"]>;
}

/** A report that says where the data came from must have seen it come. */
export function countReadings(site: Site): Readings {
  const tallies = new Map<string, Tally>();
  const warnings: string[] = [];
  let opened: Promise<OpenedStorage[]> | undefined;
  const open = async (): Promise<OpenedStorage[]> =>
    (await site.storages()).map((entry) => {
      if (entry.storage === null) return entry;
      const tally = { objects: 0, bytes: 0 };
      tallies.set(entry.name, tally);
      return { ...entry, storage: counted(entry.storage, tally) };
    });
  const storages = (): Promise<OpenedStorage[]> => {
    opened ??= open();
    return opened;
  };
  return {
    site: {
      ...site,
      storages,
      report: {
        ...site.report,
        warn: (text) => {
          warnings.push(text);
          site.report.warn(text);
        },
      },
    },
    warnings,
    storages: async () =>
      (await storages()).map(({ name, kind, storage }) => ({
        name,
        kind,
        location: storage?.location ?? "could not be opened",
        ...(tallies.get(name) ?? { objects: 0, bytes: 0 }),
      })),
  };
}

/** Markers and manifests are read everywhere, to compare them: they bring nothing back. */
const isSealed = (key: string): boolean => key.endsWith(".jbk");

const counted = (storage: Storage, tally: Tally): Storage => ({
  name: storage.name,
  kind: storage.kind,
  location: storage.location,
  put: (key, body, options) => storage.put(key, body, options),
  async *get(key, options) {
    if (!isSealed(key)) {
      yield* storage.get(key, options);
      return;
    }
    let isFirst = true;
    for await (const chunk of storage.get(key, options)) {
      if (isFirst) tally.objects++;
      isFirst = false;
      tally.bytes += chunk.length;
      yield chunk;
    }
  },
  stat: (key) => storage.stat(key),
  list: (prefix) => storage.list(prefix),
  delete: (key) => storage.delete(key),
  sweep: (prefix, olderThanMs) => storage.sweep(prefix, olderThanMs),
  freeBytes: async () => storage.freeBytes?.(),
  close: () => storage.close(),
});
