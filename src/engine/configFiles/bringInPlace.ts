import { lstat, readdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import {
  type ConfigRecord,
  countStates,
  type FileDifference,
  foldersAbove,
} from "../../domain/configBackup.js";
import { isTemporaryName, makeDirectory, writeFileAtomic } from "../../sys/atomicFile.js";
import type { Outcome } from "../restore/outcome.js";
import type { PreparedConfig } from "../restoreConfig.js";
import type { Site } from "../site.js";
import { folderOfPath } from "./folder.js";
import { foldersLast } from "./layOutIn.js";
import { Losses } from "./losses.js";
import { type PlaceWish, placeFile, placeFolder, placeLink, settle } from "./place.js";

/** Each file to its place, one after the other, each at once; what stood there is kept. Run again, it goes on where it was killed. */
export async function bringInPlace(site: Site, prepared: PreparedConfig): Promise<Outcome> {
  const { opened, records, accounts, plan, above } = prepared;
  const states = new Map(plan.files.map((one) => [one.path, one]));
  const stateOf = ({ path }: ConfigRecord) => states.get(path)?.state ?? "same";
  const has = (record: ConfigRecord, ...wanted: string[]): boolean => wanted.includes(stateOf(record));
  const keepIn = join(site.config.home, "replaced", stampOf(site));
  await sweepTemporary(records, above);
  await noteBefore(keepIn, plan.files);
  const losses = new Losses();
  const wish: PlaceWish = {
    placeOf: (path) => believedPlace(path, above),
    accounts,
    keepIn,
    isDurable: true,
    onLost: losses.add,
  };

  const made = records.filter((record) => record.kind === "dir" && has(record, "missing"));
  for (const folder of made) await placeFolder(wish, folder);
  const files = new Map(
    records.flatMap((record) =>
      record.kind === "file" && has(record, "missing", "changed") ? [[record.entry, record] as const] : [],
    ),
  );
  for await (const { entry, content } of opened.readAll(
    opened.contents.entries.filter(({ name }) => files.has(name)),
  )) {
    site.signal.throwIfAborted();
    await placeFile(site, wish, files.get(entry.name) as ConfigRecord & { kind: "file" }, content);
    site.step("config-file-placed");
  }
  for (const record of records)
    if (record.kind === "link" && has(record, "missing", "changed")) await placeLink(site, wish, record);
  for (const record of records)
    if (record.kind !== "dir" && has(record, "attributes")) await settle(site, wish, record);
  for (const folder of foldersLast(records))
    if (has(folder, "missing", "attributes")) await settle(site, wish, folder);

  const counts = countStates(plan.files);
  return {
    tables: [],
    rowsRestored: 0,
    warnings: losses.warnings(),
    metadata: { ...counts, files: files.size, keptIn: keepIn },
  };
}

/** What runs that were killed were writing just then. */
async function sweepTemporary(records: readonly ConfigRecord[], above: ReadonlySet<string>): Promise<void> {
  for (const { kind, path } of records) {
    if (kind !== "dir" || above.has(path)) continue;
    const names = await readdir(path).catch(() => []); // missing, or not ours to look into: then nothing of ours is in it
    for (const name of names.filter(isTemporaryName)) {
      const { base, below } = believedPlace(path, above);
      const { folder } = await folderOfPath(base, `${below}/${name}`);
      await rm(folder.at(name), { force: true });
      await folder.close();
    }
  }
}

const stampOf = (site: Site): string =>
  site.clock
    .now()
    .toISOString()
    .replaceAll(/[-:]|\.\d+/g, "");

/** Folders above what was backed up may be links of the host's own; below them, none is followed. */
function believedPlace(path: string, above: ReadonlySet<string>): { base: string; below: string } {
  const base = above.has(path)
    ? dirname(path)
    : (foldersAbove(path).findLast((folder) => above.has(folder)) ?? "/");
  return { base, below: path.slice(base === "/" ? 0 : base.length) };
}

/** For whoever wants it back: the files that are replaced stand beside this list. */
async function noteBefore(keepIn: string, files: readonly FileDifference[]): Promise<void> {
  const touched = files.filter(({ state }) => state !== "same" && state !== "extra");
  const before = await Promise.all(
    touched.map(async ({ path, state, what }) => {
      const stat = await lstat(path).catch(() => null); // missing: there is nothing to go back to
      return {
        path,
        state,
        what,
        before:
          stat === null ? null : { mode: (stat.mode & 0o7777).toString(8), uid: stat.uid, gid: stat.gid },
      };
    }),
  );
  await makeDirectory(keepIn);
  await writeFileAtomic(join(keepIn, "replaced.json"), `${JSON.stringify(before, null, 2)}\n`, {
    overwrite: true,
  });
}
