import { lstat, mkdir, mkdtemp, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { JBackupError, reasonOf } from "../../domain/errors.js";
import { draftText, type SiteDraft, secretFilesOf } from "../../domain/siteDraft.js";
import { makeDirectory, syncDirectory, writeFileAtomic } from "../../sys/atomicFile.js";
import { kitText } from "../recoveryKit.js";
import type { SetUpParts } from "./parts.js";

export interface SiteFiles {
  /** jbackup.yaml */
  config: string;
  kit: string;
}

export interface WrittenSite extends SiteFiles {
  /** The folder with the keys and the other secrets. */
  keys: string;
  recipients: [daily: string, recovery: string];
}

const isThere = (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (["ENOENT", "ENOTDIR"].includes(error.code ?? "")) return false;
      throw error;
    },
  );

/** Nothing that exists is overwritten: an old configuration or kit may be the only one of its kind. */
export async function requireFree({ config, kit }: SiteFiles): Promise<void> {
  for (const [path, hint] of [
    [config, "it is a site already: jbackup config validate checks it; or name another file with --out"],
    [kit, "it may be the only kit of its keys: move it away, or name another file with --kit"],
  ] as const)
    if (await isThere(path)) throw new JBackupError("target_refused", `${path} exists already`, { hint });
}

/** Keys first, then the kit, then the configuration that makes a site of them; what was begun is taken back on failure. */
export async function writeSite(
  parts: SetUpParts,
  draft: SiteDraft,
  files: SiteFiles,
  locations: string[],
): Promise<WrittenSite> {
  await requireFree(files);
  const daily = parts.format.generateIdentity();
  const recovery = parts.format.generateIdentity();
  const { signing, signer } = parts.format.generateSigning();
  const keys = await freeFolder(keysFolder(parts, files));
  const recipients: WrittenSite["recipients"] = [daily.recipient, recovery.recipient];
  const secrets: [name: string, text: string][] = [
    ["recipient", daily.recipient],
    ["recovery-recipient", recovery.recipient],
    ["signer", signer],
    ["signing", signing.reveal()],
    ...secretFilesOf(draft).map(({ file, secret }): [string, string] => [file, secret.reveal()]),
    ["identity", daily.identity.reveal()],
  ];
  const kit = kitText({
    site: draft.site,
    madeAt: parts.clock.now(),
    identities: [daily.identity.reveal(), recovery.identity.reveal()],
    recipients,
    signers: [signer],
    storages: locations,
    script: await readFile(parts.recoverScript, "utf8"),
  });
  const catalog = join(parts.environment.jbackupHome, "catalog.db");
  const text = draftText(draft, { keys, recipients, signer, catalog });
  const written: string[] = [];
  const write = async (path: string, content: string): Promise<void> => {
    parts.signal.throwIfAborted();
    await writeFileAtomic(path, content);
    written.push(path);
  };
  try {
    await writeFolder(keys, secrets);
    written.push(keys);
    await write(files.kit, kit);
    await write(files.config, text);
  } catch (error) {
    for (const path of written) await rm(path, { recursive: true, force: true });
    throw failureOf(error, parts.signal);
  }
  return { ...files, keys, recipients };
}

function failureOf(error: unknown, signal: AbortSignal): unknown {
  if (signal.aborted || error instanceof JBackupError) return error;
  const { code, path } = error as NodeJS.ErrnoException;
  if (code === "EEXIST")
    return new JBackupError("target_refused", `${path ?? "a file"} appeared meanwhile`, {
      hint: "look who else sets up this site, then run jbackup init again",
      cause: error,
    });
  return new JBackupError("failed", `cannot write the site's files: ${reasonOf(error)}`, {
    hint: "name another file with --out, in a folder that this user may write",
    cause: error,
  });
}

/** With the configuration where that lies in a folder of jbackup's own, else with everything else that jbackup keeps. */
const keysFolder = ({ environment }: SetUpParts, { config }: SiteFiles): string =>
  join(dirname(config) === "/etc/jbackup" ? "/etc/jbackup" : environment.jbackupHome, "keys");

/** Old keys may open old backups: they stay where they are. */
async function freeFolder(wanted: string): Promise<string> {
  for (let nth = 1; ; nth++) {
    const folder = nth === 1 ? wanted : `${wanted}-${nth}`;
    if (!(await isThere(folder))) return folder;
  }
}

/** All of its files or none. */
async function writeFolder(folder: string, files: [name: string, text: string][]): Promise<void> {
  const parent = dirname(folder);
  await makeDirectory(parent);
  const unfinished = await mkdtemp(join(parent, "~jbackup-keys-"));
  try {
    for (const [name, text] of files) await writeFileAtomic(join(unfinished, name), `${text}\n`);
    await mkdir(folder, { mode: 0o700 }); // refused when it is there: a rename replaces empty folders silently
    await rename(unfinished, folder);
    await syncDirectory(parent);
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
}
