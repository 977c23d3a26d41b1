import type { Site } from "../site.js";

type Listed = ReadonlyMap<string, ReadonlyMap<string, { bytes: number }>>;

/** What whole listings show is truer than what was counted: WAL that was replaced or removed is in no record. */
export async function noteMeasures(
  site: Site,
  listed: Listed,
  removedIn: ReadonlyMap<string, number> = new Map(),
): Promise<void> {
  const at = site.clock.now().toISOString();
  for (const [storage, objects] of listed) {
    let bytes = -(removedIn.get(storage) ?? 0);
    for (const object of objects.values()) bytes += object.bytes;
    await site.catalog.saveMeasure({ storage, bytes: Math.max(0, bytes), at });
  }
}
