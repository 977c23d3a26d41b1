import { JBackupError, reasonOf } from "../../domain/errors.js";
import type { StoredObject } from "../../domain/manifest.js";
import type { FileThreads, ObjectSource } from "../../format/format.js";
import type { Storage } from "../../storage/storage.js";
import { alertBadCopy } from "../openBackup.js";
import type { Site } from "../site.js";
import type { OpenedChain, PackSource } from "./chain.js";
import { type PackRuns, partsToRead } from "./runs.js";

/** Packs that are on their way while each thread unpacks one. */
const READ_AHEAD = 2;
/** Where the blocks go. */
export interface Target {
  threads: FileThreads;
  pathOf(file: number): string;
  onWritten(runs: PackRuns): void;
}

/** Reads every pack once, several at a time, and writes its blocks to where they belong. */
export async function fetchRuns(
  site: Site,
  chain: OpenedChain,
  packs: PackRuns[],
  target: Target,
): Promise<void> {
  const told = new Set<string>();
  const waiting = packs[Symbol.iterator]();
  let hasFailed = false;
  const worker = async (): Promise<void> => {
    for (const runs of waiting) {
      if (hasFailed) return;
      site.signal.throwIfAborted();
      try {
        await fetchPack(site, chain, runs, target, told);
        target.onWritten(runs);
      } catch (error) {
        hasFailed = true;
        throw error;
      }
      site.step("pack-restored");
    }
  };
  const ended = await Promise.allSettled(Array.from({ length: target.threads.count + READ_AHEAD }, worker));
  for (const one of ended) if (one.status === "rejected") throw one.reason;
}

/** From the first storage whose copy opens. Blocks written twice are the same blocks, so the next storage simply begins anew. */
async function fetchPack(
  site: Site,
  chain: OpenedChain,
  runs: PackRuns,
  target: Target,
  told: Set<string>,
): Promise<void> {
  const source = chain.sources[runs.source];
  const name = site.format.packName(runs.pack);
  const facts = source?.objects.get(name);
  if (source === undefined || facts === undefined)
    throw new JBackupError(
      "manifest_invalid",
      `backup ${chain.label} refers to ${name} of its source ${runs.source}, which no manifest lists`,
    );
  const problems: string[] = [];
  for (const storage of source.found.storages) {
    try {
      await writePack(site, source, storage, facts, runs, target);
      return;
    } catch (error) {
      site.signal.throwIfAborted();
      if (!(error instanceof JBackupError)) throw error; // the disk that is written to, not the storage
      await alertBadCopy(site, storage.name, source.found, name, error, told);
      problems.push(`${storage.name}: ${reasonOf(error)}`);
    }
  }
  throw new JBackupError(
    "object_corrupt",
    `no storage has a good copy of ${name} of backup ${source.found.manifest.body.label} (${problems.join("; ")})`,
    { hint: "choose another backup from jbackup list" },
  );
}

/** The whole pack in one request when most of it is wanted, else the frames that hold the runs. */
async function writePack(
  site: Site,
  { dataKey, context, found }: PackSource,
  storage: Storage,
  { name, bytes }: Pick<StoredObject, "name" | "bytes">,
  runs: PackRuns,
  { threads, pathOf }: Target,
): Promise<void> {
  const { rawBytes, storedBytes } = found.manifest.body;
  const parts = partsToRead(runs, { bytes, rawBytes: bytes * (rawBytes / Math.max(1, storedBytes)) });
  const object = storedObject(site, storage, `${found.folder}/${name}`, bytes);
  const paths = new Map([...runs.bytesByFile().keys()].map((file) => [file, pathOf(file)]));
  const task = { dataKey, context: site.format.packContext(context, name), runs: runs.numbers, paths };
  if (parts === null) await threads.unpackWhole(object, task);
  else await threads.unpackRanges(object, parts, task);
}

const storedObject = (site: Site, storage: Storage, key: string, bytes: number): ObjectSource => ({
  bytes,
  read: (start, end) => storage.get(key, { range: { start, end }, signal: site.signal }),
});
