import { chmod, chown, lstat, mkdir, open, rename, rm, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import type { FileRecord, MappedFile } from "../../domain/fileMap.js";
import { collectGarbageAtOnce } from "../../sys/garbage.js";
import type { Site } from "../site.js";
import type { ListedFile } from "./backupManifest.js";
import type { OpenedChain } from "./chain.js";
import { addDifferences } from "./compare.js";
import { fetchRuns } from "./fetchRuns.js";
import { OpenFiles } from "./openFiles.js";
import { type Places, spaceIn } from "./places.js";
import { WantedRuns } from "./runs.js";
import { LEFT_OUT } from "./settingsFiles.js";
import { removeStrangers } from "./strangers.js";
import { CONTROL_FILE, type Mark, markTarget } from "./target.js";

export interface LayOutRequest {
  chain: OpenedChain;
  places: Places;
  /** Files that are there are compared block by block, and only what differs is written. */
  delta: boolean;
  /** Whose the files shall be, when that is not who runs this. */
  owner: { uid: number; gid: number } | null;
  /** Stays there until the caller says that all is done. */
  mark: Mark;
  /** What is to stand beside the files before the cluster can start: labels and recovery settings. */
  finishing(files: ListedFile[]): Promise<void>;
  /** Nothing of it has to outlast a crash. */
  isThrowaway?: boolean;
}

export interface LaidOut {
  files: number;
  bytes: number;
  /** Bytes that were there already and right. */
  keptBytes: number;
}

interface Placed {
  path: string;
  record: MappedFile;
}

/** Files whose ends are flushed to disk at one time. */
const FLUSHES = 8;
const UNFINISHED_CONTROL = `${CONTROL_FILE}.jbackup`;

/** A cluster's files, whole and durable. It cannot be started before the very last of them, pg_control, is in its place. The mark stays. */
export async function layOut(site: Site, request: LayOutRequest): Promise<LaidOut> {
  const { places } = request;
  collectGarbageAtOnce();
  await markTarget(places.directory, request.mark);
  await rm(join(places.directory, CONTROL_FILE), { force: true });
  site.step("target-marked");
  const prepared = await prepare(site, request);
  site.step("files-created");
  await fetchAll(site, request, prepared);
  await finishFiles(request, [...prepared.files, ...(prepared.control ? [prepared.control] : [])]);
  site.step("files-written");
  const all = [...prepared.files, ...(prepared.control ? [prepared.control] : [])];
  await request.finishing(all.map(({ record }) => record));
  await Promise.all([...prepared.folders].map(flushFolder));
  site.step("settings-written");
  await rename(join(places.directory, UNFINISHED_CONTROL), join(places.directory, CONTROL_FILE));
  await flushFolder(dirname(join(places.directory, CONTROL_FILE)));
  const bytes = prepared.files.reduce(
    (sum, { record }) => sum + record.size,
    prepared.control?.record.size ?? 0,
  );
  return { files: prepared.files.length + 1, bytes, keptBytes: prepared.keptBytes };
}

interface Prepared {
  files: Placed[];
  control: Placed | null;
  folders: Set<string>;
  wanted: WantedRuns;
  keptBytes: number;
}

/** Folders and empty files first; what is there already and right is left alone. */
async function prepare(site: Site, request: LayOutRequest): Promise<Prepared> {
  const { chain, places, owner } = request;
  const prepared: Prepared = {
    files: [],
    control: null,
    folders: new Set([places.directory]),
    wanted: new WantedRuns(),
    keptBytes: 0,
  };
  if (owner) await chown(places.directory, owner.uid, owner.gid);
  for (const [oid, place] of places.tablespaces) {
    await makeFolder(place, 0o700, owner);
    await linkSpace(places, oid, place, owner);
    prepared.folders.add(place);
  }
  let done = 0;
  for await (const { record, tags } of chain.map()) {
    site.signal.throwIfAborted();
    if (LEFT_OUT.has(record.path)) continue;
    if (record.kind === "dir") await makeFolderOf(record, places, owner, prepared.folders);
    else {
      await prepareFile(site, request, record, tags, prepared);
      done += record.size;
      if (request.delta)
        site.report.progress({
          task: "comparing what is there",
          done,
          total: chain.facts.bytes,
          unit: "bytes",
        });
    }
  }
  if (prepared.control === null)
    throw new JBackupError("object_corrupt", `backup ${chain.label} holds no ${CONTROL_FILE}`, {
      hint: "choose another backup from jbackup list",
    });
  if (request.delta) await removeStrangers(places, known(prepared));
  return prepared;
}

const known = ({ files, folders }: Prepared): Set<string> =>
  new Set([...files.map(({ path }) => path), ...folders]);

async function prepareFile(
  site: Site,
  { chain, places, delta, owner }: LayOutRequest,
  record: MappedFile,
  tags: Buffer,
  prepared: Prepared,
): Promise<void> {
  if (record.path === CONTROL_FILE) {
    const path = join(places.directory, UNFINISHED_CONTROL);
    await makeFolderOf({ kind: "dir", path: "global", mode: 0o700 }, places, owner, prepared.folders);
    await (await open(path, "w", 0o600)).close();
    prepared.control = { path, record };
    return;
  }
  const path = places.pathOf(record.path);
  const number = prepared.files.push({ path, record }) - 1;
  if (delta && (await isPlainFile(path))) {
    const compared = { site, fingerprintKey: chain.fingerprintKey, wanted: prepared.wanted };
    prepared.keptBytes += await addDifferences(compared, path, number, record, tags);
    return;
  }
  if (delta) await rm(path, { recursive: true, force: true });
  await (await open(path, "w", 0o600)).close();
  prepared.wanted.add(number, 0, record.at);
}

async function fetchAll(site: Site, { chain }: LayOutRequest, prepared: Prepared): Promise<void> {
  const { files, control, wanted } = prepared;
  if (control) wanted.add(files.length, 0, control.record.at);
  const opened = new OpenFiles((file) => (files[file] ?? control)?.path ?? "");
  let done = 0;
  const report = (bytes: number): void => {
    done += bytes;
    site.report.progress({ task: "writing files", done, total: wanted.bytes, unit: "bytes" });
  };
  try {
    await fetchRuns(site, chain, wanted.packs(), opened, report);
  } finally {
    await opened.close();
    site.report.progressEnd();
  }
}

/** Length, mode, owner, and onto the disk: many files at a time, for each waits for the disk. */
async function finishFiles({ owner, isThrowaway }: LayOutRequest, files: Placed[]): Promise<void> {
  const waiting = files[Symbol.iterator]();
  const worker = async (): Promise<void> => {
    for (const { path, record } of waiting) {
      const handle = await open(path, "r+");
      try {
        const { size } = await handle.stat();
        if (size < record.size)
          throw new JBackupError(
            "bug",
            `${path} has ${size} bytes after the restore instead of ${record.size}`,
          );
        if (size > record.size) await handle.truncate(record.size);
        await handle.chmod(record.mode);
        if (owner) await handle.chown(owner.uid, owner.gid);
        if (!isThrowaway) await handle.sync();
      } finally {
        await handle.close();
      }
    }
  };
  await Promise.all(Array.from({ length: FLUSHES }, worker));
}

async function makeFolderOf(
  record: Extract<FileRecord, { kind: "dir" }>,
  places: Places,
  owner: LayOutRequest["owner"],
  folders: Set<string>,
): Promise<void> {
  const isSpace = spaceIn(record.path) !== null && record.path.split("/").length === 2;
  if (isSpace && places.tablespaces.has(spaceIn(record.path) as string)) return; // a link stands there
  const path = places.pathOf(record.path);
  await makeFolder(path, record.mode, owner);
  folders.add(path);
}

async function makeFolder(path: string, mode: number, owner: LayOutRequest["owner"]): Promise<void> {
  const made = await mkdir(path, { recursive: true, mode });
  await chmod(path, mode);
  if (owner === null) return;
  await chown(path, owner.uid, owner.gid);
  if (made !== undefined && made !== path) await chown(made, owner.uid, owner.gid);
}

async function linkSpace(
  places: Places,
  oid: string,
  place: string,
  owner: LayOutRequest["owner"],
): Promise<void> {
  const links = join(places.directory, "pg_tblspc");
  await makeFolder(links, 0o700, owner);
  await rm(join(links, oid), { force: true, recursive: true });
  await symlink(place, join(links, oid));
}

async function isPlainFile(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isFile();
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
