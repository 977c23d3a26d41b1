import { constants } from "node:fs";
import { lstat, mkdir, open, rename, rm, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import type { FileRecord, MappedFile } from "../../domain/fileMap.js";
import type { FileThreads } from "../../format/format.js";
import { collectGarbageAtOnce } from "../../sys/garbage.js";
import { removeTree } from "../../sys/heldFolder.js";
import type { Site } from "../site.js";
import type { ListedFile } from "./backupManifest.js";
import type { OpenedChain } from "./chain.js";
import { Comparison } from "./compare.js";
import { fetchRuns } from "./fetchRuns.js";
import { Finishing, type Placed } from "./finishing.js";
import { isWalElsewhere, makeRoomForFolder } from "./links.js";
import { type Places, spaceIn } from "./places.js";
import { type PackRuns, WantedRuns } from "./runs.js";
import { LEFT_OUT } from "./settingsFiles.js";
import { removeStrangers } from "./strangers.js";
import { type TakenPlaces, takePlaces } from "./taken.js";
import { CONTROL_FILE, type Mark, markTarget, type Owner } from "./target.js";

export interface LayOutRequest {
  chain: OpenedChain;
  places: Places;
  /** Files that are there are compared block by block, and only what differs is written. */
  delta: boolean;
  /** Whose the files shall be, when that is not who runs this. */
  owner: Owner | null;
  /** Stays there until the caller says that all is done. */
  mark: Mark;
  /** What is to stand beside the files before the cluster can start: labels and recovery settings. Written `within`, which leads to the directory. */
  finishing(files: ListedFile[], within: string): Promise<void>;
  /** Nothing of it has to outlast a crash. */
  isThrowaway?: boolean;
}

export interface LaidOut {
  files: number;
  bytes: number;
  /** Bytes that were there already and right. */
  keptBytes: number;
}

const UNFINISHED_CONTROL = `${CONTROL_FILE}.jbackup`;

/** A cluster's files, whole and durable. It cannot be started before the very last of them, pg_control, is in its place. The mark stays. */
export async function layOut(site: Site, request: LayOutRequest): Promise<LaidOut> {
  const taken = await takePlaces(request.places, request.owner);
  let laidOut: LaidOut;
  try {
    laidOut = await layOutWithin(site, request, taken);
    await taken.confirm();
  } catch (error) {
    await taken.giveBack().catch(() => undefined); // why it failed tells more, and the next run takes them again
    throw taken.named(error);
  }
  await taken.giveBack();
  return laidOut;
}

async function layOutWithin(site: Site, request: LayOutRequest, taken: TakenPlaces): Promise<LaidOut> {
  const { places } = taken;
  collectGarbageAtOnce();
  await markTarget(places.directory, request.mark);
  await makeRoomForFolder(dirname(join(places.directory, CONTROL_FILE)), places);
  await rm(join(places.directory, CONTROL_FILE), { force: true });
  site.step("target-marked");
  const threads = new site.format.FileThreads();
  let prepared: Prepared;
  let all: Placed[];
  try {
    prepared = await prepare(site, request, taken, threads);
    site.step("files-created");
    all = [...prepared.files, ...(prepared.control ? [prepared.control] : [])];
    await writeAll(site, request, prepared, all, threads);
  } finally {
    await threads.close();
  }
  site.step("files-written");
  await request.finishing(
    all.map(({ record }) => record),
    places.directory,
  );
  await Promise.all([...prepared.folders].map(flushFolder));
  site.step("settings-written");
  await rename(join(places.directory, UNFINISHED_CONTROL), join(places.directory, CONTROL_FILE));
  await flushFolder(dirname(join(places.directory, CONTROL_FILE)));
  const bytes = prepared.files.reduce(
    (sum, { record }) => sum + record.size,
    prepared.control?.record.size ?? 0,
  );
  return { files: prepared.files.length + 1, bytes, keptBytes: prepared.comparison?.rightBytes ?? 0 };
}

interface Prepared {
  files: Placed[];
  control: Placed | null;
  folders: Set<string>;
  wanted: WantedRuns;
  /** Null where nothing is there to be compared. */
  comparison: Comparison | null;
}

/** Folders and empty files first; what is there already and right is left alone. */
async function prepare(
  site: Site,
  request: LayOutRequest,
  taken: TakenPlaces,
  threads: FileThreads,
): Promise<Prepared> {
  const { chain, delta } = request;
  const { places } = taken;
  const wanted = new WantedRuns();
  const prepared: Prepared = {
    files: [],
    control: null,
    folders: new Set([places.directory]),
    wanted,
    comparison: delta ? new Comparison(threads, chain.fingerprintKey, wanted) : null,
  };
  for (const [oid, place] of request.places.tablespaces) {
    await linkSpace(taken, oid, place);
    prepared.folders.add(places.tablespaces.get(oid) ?? place);
  }
  let done = 0;
  for await (const { record, tags } of chain.map()) {
    site.signal.throwIfAborted();
    if (LEFT_OUT.has(record.path)) continue;
    if (record.kind === "dir") await makeFolderOf(record, taken, prepared.folders);
    else {
      await prepareFile(taken, record, tags, prepared);
      done += record.size;
      if (delta)
        site.report.progress({
          task: "comparing what is there",
          done,
          total: chain.facts.bytes,
          unit: "bytes",
        });
    }
  }
  await prepared.comparison?.end();
  if (prepared.control === null)
    throw new JBackupError("object_corrupt", `backup ${chain.label} holds no ${CONTROL_FILE}`, {
      hint: "choose another backup from jbackup list",
    });
  if (delta) await removeStrangers(places, known(prepared));
  return prepared;
}

const known = ({ files, folders }: Prepared): Set<string> =>
  new Set([...files.map(({ path }) => path), ...folders]);

async function prepareFile(
  taken: TakenPlaces,
  record: MappedFile,
  tags: Buffer,
  prepared: Prepared,
): Promise<void> {
  const { places } = taken;
  if (record.path === CONTROL_FILE) {
    const path = join(places.directory, UNFINISHED_CONTROL);
    await makeFolderOf({ kind: "dir", path: "global", mode: 0o700 }, taken, prepared.folders);
    await removeTree(path);
    await makeFile(path);
    prepared.control = { path, record };
    return;
  }
  const path = places.pathOf(record.path);
  const placed = { path, record };
  const number = prepared.files.push(placed) - 1;
  const { comparison } = prepared;
  if (comparison && (await isPlainFile(path))) {
    await comparison.add(number, placed, tags);
    return;
  }
  if (comparison) await removeTree(path);
  // any other file is made when its first bytes are written
  if (record.at.length === 0) await makeFile(path);
  prepared.wanted.add(number, 0, record.at);
}

async function writeAll(
  site: Site,
  { chain, owner, isThrowaway = false }: LayOutRequest,
  { files, control, wanted }: Prepared,
  all: Placed[],
  threads: FileThreads,
): Promise<void> {
  if (control) wanted.add(files.length, 0, control.record.at);
  const packs = wanted.packs();
  const finishing = new Finishing(all, { owner, isThrowaway });
  for (const runs of packs) finishing.expect(runs);
  let done = 0;
  const onWritten = (runs: PackRuns): void => {
    finishing.wrote(runs);
    done += runs.bytes;
    site.report.progress({ task: "writing files", done, total: wanted.bytes, unit: "bytes" });
  };
  try {
    await fetchRuns(site, chain, packs, { threads, pathOf: (file) => all[file]?.path ?? "", onWritten });
  } finally {
    site.report.progressEnd();
  }
  await finishing.end();
}

async function makeFolderOf(
  record: Extract<FileRecord, { kind: "dir" }>,
  taken: TakenPlaces,
  folders: Set<string>,
): Promise<void> {
  const { places } = taken;
  const isSpace = spaceIn(record.path) !== null && record.path.split("/").length === 2;
  if (isSpace && places.tablespaces.has(spaceIn(record.path) as string)) return; // a link stands there
  const path = places.pathOf(record.path);
  await makeRoomForFolder(path, places);
  if (!(await isWalElsewhere(path, places))) await makeFolder(taken, path, record.mode);
  folders.add(path);
}

async function makeFolder(taken: TakenPlaces, path: string, mode: number): Promise<void> {
  const made = await mkdir(path, { recursive: true, mode });
  if (made !== undefined && made !== path) await taken.take(made, mode);
  await taken.take(path, mode);
}

async function linkSpace(taken: TakenPlaces, oid: string, place: string): Promise<void> {
  const links = join(taken.places.directory, "pg_tblspc");
  await makeRoomForFolder(links, taken.places);
  await makeFolder(taken, links, 0o700);
  await removeTree(join(links, oid));
  await symlink(place, join(links, oid));
}

async function makeFile(path: string): Promise<void> {
  const file = await open(
    path,
    constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW,
    0o600,
  );
  await file.close();
}

/** One that bears another name as well is somebody else's too: it is written anew. */
async function isPlainFile(path: string): Promise<boolean> {
  try {
    const found = await lstat(path);
    return found.isFile() && found.nlink === 1;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

async function flushFolder(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
