import { mkdir, mkdtemp, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { JBackupError, reasonOf } from "../../domain/errors.js";
import { draftText, type SiteDraft, secretFilesOf } from "../../domain/siteDraft.js";
import { makeDirectory, syncDirectory, writeFileAtomic } from "../../sys/atomicFile.js";
import { kitText } from "../recoveryKit.js";
import type { SetUpParts } from "./parts.js";
import { isThere, keysFolder, requireFree, UNFINISHED, unfinishedText, unusedKit } from "./requireFree.js";

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

/** Keys first, then the kit, then the configuration that makes a site of them; what was begun is taken back on failure. */
export async function writeSite(parts: SetUpParts, draft: SiteDraft, files: SiteFiles): Promise<WrittenSite> {
  await requireFree(parts, files);
  const unused = await unusedKit(parts, files);
  const daily = parts.format.generateIdentity();
  const recovery = parts.format.generateIdentity();
  const { signing, signer } = parts.format.generateSigning();
  const keys = await freePath(keysFolder(parts, files));
  const recipients: WrittenSite["recipients"] = [daily.recipient, recovery.recipient];
  const secrets: [name: string, text: string][] = [
    [UNFINISHED, unfinishedText(files)],
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
    databaseUrl: draft.url.reveal(),
    recipients,
    sealedFor: recipients,
    signers: [signer],
    storages: draft.storages,
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
    parts.step("init-keys-written");
    // nothing was ever sealed for its keys: it is put aside, for nobody but its owner removes a key
    if (unused !== null) await rename(unused, await freePath(`${unused}.unused`));
    await write(files.kit, kit);
    parts.step("init-kit-written");
    await write(files.config, text);
    await rm(join(keys, UNFINISHED));
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

/** What is there may be all that opens something: it stays where it is. */
async function freePath(wanted: string): Promise<string> {
  for (let nth = 1; ; nth++) {
    const path = nth === 1 ? wanted : `${wanted}-${nth}`;
    if (!(await isThere(path))) return path;
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
