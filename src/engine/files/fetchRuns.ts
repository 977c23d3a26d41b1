import { JBackupError, reasonOf } from "../../domain/errors.js";
import type { ObjectSource } from "../../format/format.js";
import type { Storage } from "../../storage/storage.js";
import { alertBadCopy } from "../openBackup.js";
import type { Site } from "../site.js";
import type { OpenedChain, PackSource } from "./chain.js";
import type { OpenFiles } from "./openFiles.js";
import type { PackRuns, Run } from "./runs.js";

/** Packs that are read at one time. */
const PARALLEL = 3;
/** A gap of a frame is cheaper read over than asked around. */
const CLOSE_BYTES = 2 ** 20;
/** Below this a pack is read whole: the requests for its index would cost more. */
const SMALL_PACK_BYTES = 2 * 2 ** 20;
const WORTH_WHOLE = 0.5;
/** Frames whose writes are under way while the next ones are opened. */
const WRITES_AHEAD = 4;

/** Reads every pack once, several at a time, and writes its blocks to where they belong. */
export async function fetchRuns(
  site: Site,
  chain: OpenedChain,
  packs: PackRuns[],
  files: OpenFiles,
  onWritten: (bytes: number) => void,
): Promise<void> {
  const told = new Set<string>();
  const waiting = packs[Symbol.iterator]();
  let hasFailed = false;
  const worker = async (): Promise<void> => {
    for (const runs of waiting) {
      if (hasFailed) return;
      site.signal.throwIfAborted();
      try {
        await fetchPack(site, chain, runs, files, told);
      } catch (error) {
        hasFailed = true;
        throw error;
      }
      onWritten(runs.bytes);
      site.step("pack-restored");
    }
  };
  const ended = await Promise.allSettled(Array.from({ length: PARALLEL }, worker));
  for (const one of ended) if (one.status === "rejected") throw one.reason;
}

/** From the first storage whose copy opens. Blocks written twice are the same blocks, so the next storage simply begins anew. */
async function fetchPack(
  site: Site,
  chain: OpenedChain,
  runs: PackRuns,
  files: OpenFiles,
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
      await writePack(site, source, storage, name, facts.bytes, runs, files);
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

async function writePack(
  site: Site,
  source: PackSource,
  storage: Storage,
  name: string,
  sealedBytes: number,
  runs: PackRuns,
  files: OpenFiles,
): Promise<void> {
  const object = storedObject(site, storage, `${source.found.folder}/${name}`, sealedBytes);
  const writes: Promise<void>[] = [];
  let next = 0;
  try {
    for await (const { offset, content } of contentOf(site, source, name, object, runs)) {
      const end = offset + content.length;
      const batch: Promise<void>[] = [];
      // runs are in order, and a run may go on in the next piece
      for (let nth = next; nth < runs.count; nth++) {
        const run = runs.run(nth);
        if (run.offset >= end) break;
        if (nth === next && run.offset + run.bytes <= end) next++;
        batch.push(writePart(run, offset, content, files));
      }
      const written = Promise.all(batch).then(() => undefined);
      written.catch(() => undefined); // awaited below
      writes.push(written);
      if (writes.length > WRITES_AHEAD) await writes.shift();
    }
  } finally {
    await Promise.all(writes);
  }
}

async function writePart(run: Run, offset: number, content: Buffer, files: OpenFiles): Promise<void> {
  const from = Math.max(run.offset, offset);
  const to = Math.min(run.offset + run.bytes, offset + content.length);
  if (from < to)
    await files.write(run.file, content.subarray(from - offset, to - offset), run.at + from - run.offset);
}

/** The whole pack in one request when most of it is wanted, else the frames that hold the runs. */
async function* contentOf(
  site: Site,
  { dataKey, context }: PackSource,
  name: string,
  object: ObjectSource,
  runs: PackRuns,
): AsyncGenerator<{ offset: number; content: Buffer }> {
  const ranges = runs.ranges(CLOSE_BYTES);
  const end = ranges.at(-1)?.end ?? 0;
  const wanted = ranges.reduce((sum, range) => sum + range.end - range.start, 0);
  const packContext = site.format.packContext(context, name);
  if (object.bytes > SMALL_PACK_BYTES && wanted < end * WORTH_WHOLE) {
    yield* site.format.openRanges(object, dataKey, packContext, ranges);
    return;
  }
  let offset = 0;
  for await (const content of site.format.openSealed(object, dataKey, packContext)) {
    yield { offset, content };
    offset += content.length;
  }
  if (offset < end)
    throw new JBackupError("object_truncated", `${name} holds ${offset} bytes, and ${end} are asked for`);
}

const storedObject = (site: Site, storage: Storage, key: string, bytes: number): ObjectSource => ({
  bytes,
  read: (start, end) => storage.get(key, { range: { start, end }, signal: site.signal }),
});
