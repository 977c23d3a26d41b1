import { readdir, readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import {
  isHistoryName,
  isSegmentName,
  lsnText,
  parseSegmentName,
  parseWalFile,
  segmentStart,
} from "../../domain/wal.js";
import { requireOwnSystem } from "../ownSystem.js";
import type { Site } from "../site.js";
import { noteAway, withoutAway } from "./away.js";
import { failing, healMissed, noteMissed } from "./missed.js";
import { forgetOld, printOf, rememberPushed, walHomeOf } from "./remembered.js";
import { readSegmentHeader, type SegmentHeader, systemIdBeside } from "./segmentHeader.js";
import { openWalWriter, type WalWriter } from "./walWriter.js";

/** Other finished files that are pushed along: PostgreSQL asks for one at a time. */
const ALONG_MOST = 24;
const PARALLEL = 4;

/** Copies that a storage missed earlier, made up for by one call. */
const HEALED_MOST = 8;

/** Archives one file for PostgreSQL, and the next ones with it. Returns when that one is durable in enough storages. */
export async function pushWal(whole: Site, path: string): Promise<void> {
  const name = basename(path);
  if (isBackupHistory(name)) return; // tells where a base backup began: ours know that by themselves
  const file = parseWalFile(name);
  if (file === null || file.kind === "piece")
    throw new JBackupError("usage", `${name} is no file of the WAL`, {
      hint: "archive_command = 'jbackup wal push %p'",
    });
  const content = await contentOf(path);
  const systemId = await systemOf(path, name, content);
  await requireOwnSystem(whole, systemId);
  const site = await withoutAway(whole);
  const writer = await openWalWriter(site, systemId);
  try {
    const [asked] = await Promise.allSettled([
      writer.put(name, content),
      pushAlong(site, writer, dirname(path), name, systemId),
    ]);
    if (asked.status === "rejected") throw asked.reason;
    await writer.settled();
  } finally {
    await noteMissed(site, writer);
    await noteAway(site, writer);
  }
  await healMissed(site, systemId, failing(writer), HEALED_MOST);
}

const isBackupHistory = (name: string): boolean => /^[0-9A-F]{24}\.[0-9A-F]{8}\.backup$/.test(name);

async function contentOf(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new JBackupError("failed", `cannot read ${path}: ${(error as Error).message}`, {
      cause: error,
      hint: "archive_command is run by the server in its data directory: archive_command = 'jbackup wal push %p'",
    });
  }
}

async function systemOf(path: string, name: string, content: Buffer): Promise<string> {
  if (isHistoryName(name)) {
    const beside = await systemIdBeside(path);
    if (beside !== null) return beside;
    throw new JBackupError(
      "failed",
      `there is no pg_control beside ${path} that says which cluster it is of`,
    );
  }
  const header = readSegmentHeader(content);
  if (header === null || (content.length !== header.segmentBytes && !name.endsWith(".partial")))
    throw new JBackupError("object_corrupt", `${path} is not a whole WAL segment`, {
      hint: "look at the disk that holds pg_wal; PostgreSQL keeps the file and asks again",
    });
  if (!isNamedRight(header, name))
    throw new JBackupError(
      "object_corrupt",
      `${path} begins at ${lsnText(header.from)}, as no ${name} does`,
      {
        hint: "PostgreSQL keeps old segments under names to come: archive only what it asks for with archive_command",
      },
    );
  return header.systemId;
}

/** A segment that is kept for later use has its new name already, and the old content still. Stored, it would stand in the way. */
const isNamedRight = ({ from, segmentBytes }: SegmentHeader, name: string): boolean =>
  segmentStart(parseSegmentName(name.slice(0, 24), segmentBytes).number, segmentBytes) === from;

/** What is ready too goes at the same time; the calls that PostgreSQL makes for it find it done. */
async function pushAlong(
  site: Site,
  writer: WalWriter,
  folder: string,
  asked: string,
  systemId: string,
): Promise<void> {
  const ready = (await readyFiles(folder)).filter((name) => name !== asked).slice(0, ALONG_MOST);
  if (ready.length > 0) await forgetOld(walHomeOf(site));
  const waiting = ready[Symbol.iterator]();
  const worker = async (): Promise<void> => {
    for (const name of waiting) {
      const path = join(folder, name);
      const print = await printOf(path);
      const content = await readFile(path).catch(() => null); // asked for later, then told
      const header = content && readSegmentHeader(content);
      const isSound = header?.systemId === systemId && content?.length === header.segmentBytes;
      if (!isSound || !isNamedRight(header, name)) continue;
      await writer.put(name, content);
      await rememberPushed(walHomeOf(site), name, print);
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
}

async function readyFiles(folder: string): Promise<string[]> {
  try {
    return (await readdir(join(folder, "archive_status")))
      .filter((name) => name.endsWith(".ready"))
      .map((name) => name.slice(0, -".ready".length))
      .filter(isSegmentName)
      .sort();
  } catch (error) {
    if (["ENOENT", "EACCES", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return [];
    throw error;
  }
}
