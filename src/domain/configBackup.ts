import { JBackupError } from "./errors.js";
import type { Entry } from "./manifest.js";

/** What stood at one path of the host. */
interface RecordBase {
  /** Absolute. */
  path: string;
  mode: number;
  uid: number;
  gid: number;
  /** Names where the host knew them: a new host may number its users otherwise. */
  user: string | null;
  group: string | null;
  mtimeMs: number;
}

export type ConfigRecord =
  | (RecordBase & { kind: "file"; bytes: number; entry: string; acl?: string })
  /** `isAbove`: a parent of what was asked for, made only where it is missing. */
  | (RecordBase & { kind: "dir"; acl?: string; isAbove?: boolean })
  | (RecordBase & { kind: "link"; target: string });

export interface Missed {
  path: string;
  why: string;
}

/** The sealed part of a config backup, under `detail.config`. */
export interface ConfigDetail {
  host: string;
  roots: string[];
  records: ConfigRecord[];
  /** What should be here and is not. */
  missed: Missed[];
  /** What is known of the server beside the files; null when it could not be asked. */
  server: string[] | null;
}

export const INSTALL_PLAN = "install-plan.md";
/** Where the files of the host stand among the entries, and in a folder that they are restored into. */
export const FILES = "files";
const ODD_NAMES = "odd-names";
export const HOST = "host.json";
/** The folder of what the server said of itself. */
export const SERVER = "postgres";

/** What a restore into a folder puts there, by the first part of its name. */
export const isLaidOut = (name: string): boolean => [FILES, HOST, SERVER, INSTALL_PLAN].includes(name);

/** Most files are named as on the host, so that they can be found without jbackup as well. */
export const entryNameOf = (path: string, number: number, isName: (name: string) => boolean): string => {
  const name = `${FILES}${path}`;
  return isName(name) ? name : `${ODD_NAMES}/${String(number).padStart(6, "0")}`;
};

export const isBelow = (path: string, folder: string): boolean =>
  path === folder || path.startsWith(folder === "/" ? "/" : `${folder}/`);

/** Each path once: what lies below another one comes with it. */
export const rootsOf = (paths: readonly string[]): string[] => {
  const sorted = [...new Set(paths)].sort();
  return sorted.filter((path) => !sorted.some((other) => other !== path && isBelow(path, other)));
};

/** The folders above a path, outermost first, without the root folder. */
export function foldersAbove(path: string): string[] {
  const parts = path.split("/").filter((part) => part !== "");
  return parts.slice(0, -1).map((_, at) => `/${parts.slice(0, at + 1).join("/")}`);
}

const isPlainPath = (path: unknown): path is string =>
  typeof path === "string" &&
  path.startsWith("/") &&
  path.length > 1 &&
  !path.includes("\0") &&
  path
    .slice(1)
    .split("/")
    .every((part) => part !== "" && part !== "." && part !== "..");

const isMode = (mode: unknown): boolean =>
  Number.isInteger(mode) && (mode as number) >= 0 && (mode as number) <= 0o7777;

/** Why a list of files must not be laid out anywhere; null when it can hurt nobody. */
function dangerIn(records: readonly ConfigRecord[], entries: ReadonlyMap<string, Entry>): string | null {
  const kinds = new Map<string, ConfigRecord["kind"]>();
  for (const record of records) {
    const { path, kind } = record;
    if (!isPlainPath(path)) return `the path ${JSON.stringify(path)} could lead anywhere`;
    if (kinds.has(path)) return `${path} is listed twice`;
    if (!isMode(record.mode)) return `${path} has the mode ${String(record.mode)}`;
    kinds.set(path, kind);
    if (kind === "link") {
      if (typeof record.target !== "string" || record.target === "" || record.target.includes("\0"))
        return `the link ${path} leads nowhere`;
    } else if (kind === "file") {
      const entry = entries.get(record.entry);
      if (entry === undefined) return `${path} refers to ${String(record.entry)}, which is not in the backup`;
      if (entry.bytes !== record.bytes)
        return `${path} is said to have ${record.bytes} bytes, and its entry has ${entry.bytes}`;
    } else if (kind !== "dir") return `${path} is neither file, folder nor link`;
  }
  for (const path of kinds.keys())
    for (const folder of foldersAbove(path)) {
      const kind = kinds.get(folder);
      if (kind !== undefined && kind !== "dir") return `${path} lies below ${folder}, which is a ${kind}`;
    }
  return null;
}

/** The list as it was written; one that was crafted to reach other places is refused whole. */
export function checkedRecords(
  label: string,
  detail: ConfigDetail,
  entries: readonly Entry[],
): ConfigRecord[] {
  const danger = Array.isArray(detail.records)
    ? dangerIn(detail.records, new Map(entries.map((entry) => [entry.name, entry])))
    : "it has no list of files";
  if (danger === null) return detail.records;
  throw new JBackupError("object_corrupt", `the list of files in ${label} is refused: ${danger}`, {
    hint: "choose another one with jbackup list --kind config",
  });
}

/** Those that were asked for: the named paths and what lies below them, all when none is named. */
export function chosenRecords(records: readonly ConfigRecord[], paths: readonly string[]): ConfigRecord[] {
  const asked = records.filter((record) => record.kind !== "dir" || record.isAbove !== true);
  if (paths.length === 0) return [...records];
  const unknown = paths.find((path) => !asked.some((record) => isBelow(record.path, path)));
  if (unknown !== undefined)
    throw new JBackupError("not_found", `${unknown} is not in this backup`, {
      hint: "jbackup show BACKUP lists what is in it",
    });
  const chosen = asked.filter(({ path }) => paths.some((wanted) => isBelow(path, wanted)));
  const above = new Set(chosen.flatMap(({ path }) => foldersAbove(path)));
  const folders = records.filter(
    (record): record is ConfigRecord & { kind: "dir" } =>
      record.kind === "dir" && above.has(record.path) && !chosen.includes(record),
  );
  return [...folders.map((folder) => ({ ...folder, isAbove: true })), ...chosen];
}

export const FILE_STATES = ["same", "changed", "missing", "attributes", "inTheWay", "extra"] as const;
export type FileState = (typeof FILE_STATES)[number];

/** One path, compared with what stands there on this host. */
export interface FileDifference {
  path: string;
  kind: ConfigRecord["kind"];
  state: FileState;
  /** What differs, in words. */
  what: string | null;
}

export const countStates = (differences: readonly FileDifference[]): Record<FileState, number> =>
  Object.fromEntries(
    FILE_STATES.map((state) => [state, differences.filter((one) => one.state === state).length]),
  ) as Record<FileState, number>;

export const modeText = (mode: number): string => mode.toString(8).padStart(4, "0");
