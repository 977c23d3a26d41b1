import type { Restore } from "../domain/backup.js";
import {
  type ConfigDetail,
  type ConfigRecord,
  checkedRecords,
  chosenRecords,
  countStates,
  FILES,
  type FileDifference,
  INSTALL_PLAN,
} from "../domain/configBackup.js";
import type { ConfigPlan, ConfigRequest } from "../domain/configPlan.js";
import { isJBackupError, JBackupError } from "../domain/errors.js";
import { missedText } from "./backupConfig.js";
import { type Accounts, accountsHere } from "./configFiles/accounts.js";
import { bringInPlace } from "./configFiles/bringInPlace.js";
import { compareFiles } from "./configFiles/difference.js";
import { isOwnLeftover, layOutIn, refuseFolder } from "./configFiles/layOutIn.js";
import { findBackup } from "./findBackup.js";
import { type OpenedBackup, openBackup } from "./openBackup.js";
import { newerTexts } from "./passedOver.js";
import { JOB, recorded } from "./restore/record.js";
import { onThisHost, withRun } from "./run.js";
import type { Site } from "./site.js";

export interface PreparedConfig {
  request: ConfigRequest;
  plan: ConfigPlan;
  opened: OpenedBackup;
  /** What is to be brought back, parents first. */
  records: ConfigRecord[];
  /** Folders above what was backed up: links among them are the host's own way of arranging things. */
  above: ReadonlySet<string>;
  accounts: Accounts;
}

/** What a restore would do, file by file; nothing is changed. */
export const planConfig = async (site: Site, request: ConfigRequest): Promise<ConfigPlan> =>
  (await prepare(site, request)).plan;

/** Brings configuration files back: into a folder, to look at and to copy from, or each to its place on this host. */
export async function restoreConfig(
  site: Site,
  request: ConfigRequest,
  confirm: (plan: ConfigPlan) => Promise<void>,
): Promise<Restore> {
  const { plan } = await prepare(site, request);
  await confirm(plan);
  return withRun(site, JOB, async (run) => {
    await run.settleKilled(onThisHost(site));
    // whatever was true before the confirmation may have changed meanwhile
    const prepared = await prepare(site, { ...request, reference: plan.backupId });
    refuseObstacles(prepared.plan);
    return recorded(
      site,
      run,
      {
        plan: prepared.plan,
        mode: "full",
        reason: request.reason,
        targetTime: null,
        metadata: { kind: "config" },
      },
      () =>
        request.directory === null
          ? bringInPlace(site, prepared)
          : layOutIn(site, prepared, request.directory),
    );
  });
}

/** Whether a backup is one of configuration files, as far as the catalog tells. */
export async function isConfigBackup(site: Site, reference: string): Promise<boolean> {
  try {
    const known = await site.catalog.backups({ reference, limit: 2 });
    return known.length > 0 && known.every(({ kind }) => kind === "config");
  } catch (error) {
    if (isJBackupError(error, "catalog_unavailable")) return false; // --config-files says so as well
    throw error;
  }
}

async function prepare(site: Site, request: ConfigRequest): Promise<PreparedConfig> {
  const found = await findBackup(site, request.reference, "config");
  const { body } = found.manifest;
  if (body.kind !== "config")
    throw new JBackupError("usage", `${body.label} is no backup of configuration files`, {
      hint: "choose one with jbackup list --kind config, or leave --config-files out",
    });
  const opened = await openBackup(site, found);
  const detail = opened.contents.detail.config as ConfigDetail;
  const all = checkedRecords(body.label, detail ?? {}, opened.contents.entries);
  const records = chosenRecords(all, request.paths);
  const above = new Set(all.filter((one) => one.kind === "dir" && one.isAbove).map(({ path }) => path));
  const accounts = await accountsHere();
  const isLeftover = request.directory !== null && (await isOwnLeftover(request.directory));
  if (request.directory !== null && !isLeftover) await refuseFolder(request.directory, body.rawBytes);
  const digests = new Map(opened.contents.entries.map(({ name, sha256 }) => [name, sha256]));
  const files =
    request.directory === null ? await compareFiles(site, { records, accounts, above, digests }) : [];
  const plan: ConfigPlan = {
    backupId: body.backupId,
    label: body.label,
    createdAt: body.createdAt,
    mode: "full",
    way: request.directory === null ? "in-place" : "directory",
    target: request.directory ?? site.environment.host,
    overwrites: request.directory === null && changes(files).length > 0 ? site.environment.host : null,
    host: detail.host,
    steps: request.directory === null ? stepsInPlace(files) : stepsInto(request.directory, records),
    rawBytes: body.rawBytes,
    storages: found.storages.map(({ name }) => name),
    warnings: [...newerTexts(found), ...detail.missed.map(missedText), ...otherHost(site, detail, request)],
    files,
  };
  return { request, plan, opened, records, above, accounts };
}

const changes = (files: readonly FileDifference[]): FileDifference[] =>
  files.filter(({ state }) => state !== "same" && state !== "extra");

const otherHost = (site: Site, { host }: ConfigDetail, { directory }: ConfigRequest): string[] =>
  directory !== null || host === site.environment.host
    ? []
    : [
        `it was taken on ${host}, and this host is ${site.environment.host}: addresses and names in it are those of ${host}`,
      ];

const stepsInto = (directory: string, records: readonly ConfigRecord[]): string[] => [
  `write ${records.filter(({ kind }) => kind === "file").length} files with their modes below ${directory}/${FILES}`,
  `put ${INSTALL_PLAN}, what the server said of itself, and the roles beside them`,
];

function stepsInPlace(files: readonly FileDifference[]): string[] {
  const many = countStates(files);
  if (changes(files).length === 0) return ["nothing: every file is as it was backed up"];
  return [
    ...(many.missing > 0 ? [`make what is missing (${many.missing})`] : []),
    ...(many.changed > 0
      ? [`keep a copy of what differs, and replace it (${many.changed}), each file at once`]
      : []),
    ...(many.attributes > 0 ? [`set modes, owners and access lists back (${many.attributes})`] : []),
  ];
}

/** Refused before anything is touched: a half-way restored configuration may be worse than a wrong one. */
function refuseObstacles({ files }: ConfigPlan): void {
  const obstacle = files.find(({ state }) => state === "inTheWay");
  if (obstacle === undefined) return;
  throw new JBackupError("target_refused", `${obstacle.path} ${obstacle.what}`, {
    hint: "move it out of the way, or restore into a folder with --into-dir",
    details: { inTheWay: files.filter(({ state }) => state === "inTheWay").map(({ path }) => path) },
  });
}
