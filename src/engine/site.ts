import type * as AlertsFront from "../alerts/alerts.js";
import type { Channel } from "../alerts/alerts.js";
import type { Catalog } from "../catalog/catalog.js";
import type { JobQueue } from "../catalog/catalogs.js";
import type { Config, Environment, LoadedRunbook, RunbookFile } from "../config/config.js";
import type { ChannelConfig } from "../domain/config.js";
import type { Secret } from "../domain/secret.js";
import type * as FormatFront from "../format/format.js";
import type * as PostgresFront from "../postgres/postgres.js";
import type { Postgres } from "../postgres/postgres.js";
import type { Storage } from "../storage/storage.js";
import type * as Storages from "../storage/storages.js";
import type { EndedProgram, ProgramWish } from "../sys/aside.js";
import type { Clock } from "../sys/clock.js";

/** How the engine tells people what it does, while it does it. The answer itself is returned, never reported. */
export interface Reporter {
  /** One line about something worth knowing. */
  info(text: string): void;
  /** Something that works but must be looked at. */
  warn(text: string): void;
  /** Where a long piece of work stands. `total` is null when it cannot be known. */
  progress(state: Progress): void;
  /** The long piece of work is over: a bar, if there is one, is closed. */
  progressEnd(): void;
}

export interface Progress {
  /** What is being done: "dumping shop", "copying to r2". */
  task: string;
  done: number;
  total: number | null;
  unit: "bytes" | "rows" | "tables" | "objects" | "tenants" | "steps";
  /** Already formatted extras, such as "3.1x smaller". */
  extra?: string;
}

/** Everything a use case works with. Opened lazily: a command pays only for what it touches. */
export interface Site {
  readonly config: Config;
  readonly environment: Environment;
  readonly version: string;
  readonly clock: Clock;
  readonly report: Reporter;
  /** Aborted by Ctrl-C, SIGTERM, or a lost terminal. */
  readonly signal: AbortSignal;
  readonly catalog: Catalog;
  readonly format: Format;
  readonly storage: Pick<
    typeof Storages,
    "readSite" | "claimSite" | "bytesBody" | "readAll" | "checkStorage" | "probeRights" | "removeProbes"
  >;
  /** Work shared with other hosts; null where the catalog is a file of this one. Opened when it is first used, or again when that failed. */
  queue(): Promise<JobQueue | null>;
  /** The same site once more, with everything opened anew. To be closed by whoever asked. */
  reopen(): Promise<Site>;
  /** Makes output blank this text wherever it appears. */
  onSecret(text: string): void;
  /** The same with *** in place of every secret that is known: for what others said and jbackup keeps. */
  redact<Value>(value: Value): Value;
  /** A UUIDv7 for the present moment. */
  newId(): string;
  /** The stand-alone script that opens backups without jbackup. */
  readonly recoverScript: string;
  /** Every configured storage, opened; one that cannot be opened answers its error in its place. */
  storages(): Promise<OpenedStorage[]>;
  /** The same, with the credentials that may delete where a storage has some of their own. */
  deletingStorages(): Promise<OpenedStorage[]>;
  postgres(): Promise<Postgres>;
  /** Servers of our own on restored files. */
  clusters(): Promise<Clusters>;
  /** One way to people. */
  openChannel(config: ChannelConfig): Promise<Channel>;
  ping: typeof AlertsFront.ping;
  /** What jbackup is started with: the program and its script, absolute. */
  readonly program: readonly string[];
  /** Calls every few seconds, by the clock on the wall, and never while the last call goes on; answers how to end it. */
  everyFewSeconds(work: () => Promise<void>): Promise<() => Promise<void>>;
  /** Starts jbackup once more, on its own. Nobody waits for it, nor hears from it. */
  aside(args: string[]): void;
  /** Starts jbackup once more and waits for it. */
  again(args: string[], wish: ProgramWish): Promise<EndedProgram>;
  /** Runs a script of the user's. */
  shell(script: string, wish: ProgramWish): Promise<EndedProgram>;
  /** The runbooks that came with jbackup and the site's own; still unread text. */
  runbookFiles(): Promise<RunbookFile[]>;
  parseRunbook(file: RunbookFile): Promise<LoadedRunbook>;
  /** The site's address as a drill knows it: on the server in the drill's folder. */
  drillUrl(folder: string): Promise<Secret>;
  /** The site's user and database on another server. */
  urlOn(place: { host: string; port: string }): Promise<Secret>;
  /** A named point of a use case. Tests stop the process here; otherwise nothing happens. */
  step(name: string): void;
  /** Once, however often it is called. */
  close(): Promise<void>;
}

export type Format = typeof FormatFront;

export type Clusters = Pick<
  typeof PostgresFront,
  | "startRestored"
  | "makeScratchFolder"
  | "sweepScratchClusters"
  | "startScratchCluster"
  | "checkPageChecksums"
  | "startServer"
  | "stopServer"
  | "isRunning"
  | "serverOn"
  | "findBinDirectories"
  | "unprivilegedOwner"
  | "openPostgres"
  | "readDumpThrough"
>;

export type OpenedStorage =
  | { name: string; kind: Storage["kind"]; storage: Storage }
  | { name: string; kind: Storage["kind"]; storage: null; error: Error };
