import { join } from "node:path";
import { isJBackupError, JBackupError } from "../../domain/errors.js";
import { Secret } from "../../domain/secret.js";
import type { StorageDraft } from "../../domain/siteDraft.js";
import { listFlag } from "../flags.js";
import { countedText } from "../text.js";
import type { Ask } from "./ask.js";
import type { Scene } from "./scene.js";
import { parseStorageSpec } from "./storageSpec.js";

export interface ChosenStorages {
  drafts: StorageDraft[];
}

/** Every storage is tried for real before it is taken. */
export async function chooseStorages(scene: Scene, site: string): Promise<ChosenStorages> {
  const { options, ask, context } = scene;
  const chosen: ChosenStorages = { drafts: [] };
  const specs = listFlag(options, "storage");
  const folder = join(context.environment.jbackupHome, "storage");
  if (specs.length > 0 || ask === null) {
    const drafts: StorageDraft[] =
      specs.length === 0
        ? [{ kind: "local", name: "local", path: folder }]
        : specs.map((spec) => parseStorageSpec(spec, (name) => context.environment.variable(name)));
    requireDifferent(drafts);
    for (const draft of drafts) await take(scene, chosen, draft, site);
    return chosen;
  }
  await askUntilTaken(scene, ask, chosen, site, () => askFolder(ask, "local", folder));
  for (;;) {
    const kind = await ask.select("Another storage? Two or three places survive what one does not", KINDS);
    if (kind === "no") return chosen;
    await askUntilTaken(scene, ask, chosen, site, () => askStorage(ask, kind, chosen.drafts));
  }
}

type Kind = "r2" | "s3" | "b2" | "folder";

const KINDS: { name: string; value: Kind | "no" }[] = [
  { name: "Cloudflare R2", value: "r2" },
  { name: "another S3 service (AWS, MinIO, Ceph, ...)", value: "s3" },
  { name: "Backblaze B2", value: "b2" },
  { name: "another folder: a second disk, a mounted share", value: "folder" },
  { name: "no, that is all", value: "no" },
];

function requireDifferent(drafts: StorageDraft[]): void {
  const names = drafts.map(({ name }) => name);
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  if (twice === undefined) return;
  throw new JBackupError("usage", `two storages are named ${twice}`, { hint: "give each a name of its own" });
}

async function take(scene: Scene, chosen: ChosenStorages, draft: StorageDraft, site: string): Promise<void> {
  const { context, setUp } = scene;
  if (draft.kind !== "local")
    for (const secret of Object.values(draft.credentials)) context.output.secret(secret.reveal());
  const tried = await setUp.tryStorage(draft, site);
  if (tried.problems.length > 0)
    throw new JBackupError(
      "storage_unavailable",
      `storage ${draft.name} at ${tried.location} does not do what a storage must: ${tried.problems.join("; ")}`,
      { hint: "correct its address, its credentials or its rights, then try again" },
    );
  context.output.report.info(
    `Storage ${draft.name}: ${tried.location} passed ${countedText(tried.checks, "check")}`,
  );
  chosen.drafts.push(draft);
}

type Remedy = "again" | "anew" | "leave" | "take";

async function askUntilTaken(
  scene: Scene,
  ask: Ask,
  chosen: ChosenStorages,
  site: string,
  askOne: () => Promise<StorageDraft>,
): Promise<void> {
  const { report } = scene.context.output;
  let draft = await askOne();
  for (;;) {
    try {
      report.info(`Trying ${draft.name} for real ...`);
      return await take(scene, chosen, draft, site);
    } catch (error) {
      if (!isJBackupError(error) || error.code === "interrupted" || error.code === "terminated") throw error;
      report.warn(error.message);
      if (error.hint !== undefined) report.info(`Try: ${error.hint}`);
      const remedy = await ask.select<Remedy>("What now?", [
        { name: "try it once more", value: "again" },
        { name: "type its address anew", value: "anew" },
        ...(chosen.drafts.length === 0 ? [] : [{ name: "leave it out", value: "leave" as const }]),
        // a race that an S3 service loses now and then is no reason to have one copy less
        ...(isJBackupError(error, "storage_unavailable")
          ? [
              {
                name: "take it all the same: it may work by the time of the first backup",
                value: "take" as const,
              },
            ]
          : []),
      ]);
      if (remedy === "leave") return;
      if (remedy === "take") return void chosen.drafts.push(draft);
      if (remedy === "anew") draft = await askOne();
    }
  }
}

const filled = (text: string): string | null => (text.trim() === "" ? "it cannot be empty" : null);

async function askFolder(ask: Ask, name: string, initial?: string): Promise<StorageDraft> {
  const path = await ask.text("Folder for the backups on this host", {
    ...(initial === undefined ? {} : { initial }),
    problem: (text) => (text.startsWith("/") ? null : "give its whole path, such as /var/backups/shop"),
  });
  return { kind: "local", name, path: path.trim() };
}

/** The kind is a good name for the first of it. */
const freeName = (wanted: string, taken: StorageDraft[]): string => {
  for (let nth = 1; ; nth++) {
    const name = nth === 1 ? wanted : `${wanted}${nth}`;
    if (taken.every((draft) => draft.name !== name)) return name;
  }
};

async function askStorage(ask: Ask, kind: Kind, taken: StorageDraft[]): Promise<StorageDraft> {
  const name = freeName(kind === "folder" ? "disk" : kind, taken);
  if (kind === "folder") return askFolder(ask, name);
  const word = async (message: string, initial?: string): Promise<string> =>
    (await ask.text(message, { ...(initial === undefined ? {} : { initial }), problem: filled })).trim();
  const endpoint = await askEndpoint(ask, kind);
  const region = kind === "s3" ? await word("Region", "auto") : "auto";
  const bucket = await word("Bucket");
  const prefix = (await ask.text("Prefix inside it (may be empty)", { initial: "jbackup" }))
    .trim()
    .replace(/^\/+|\/+$/g, "");
  const id = new Secret(await word(kind === "b2" ? "Key id" : "Access key id"));
  const secret = new Secret(
    (await ask.hidden(kind === "b2" ? "Application key" : "Secret access key")).trim(),
  );
  const rest = { name, bucket, prefix, credentials: { id, secret } };
  return kind === "b2"
    ? { kind, endpoint, ...rest }
    : { kind: "s3", endpoint: endpoint as string, region, ...rest };
}

async function askEndpoint(ask: Ask, kind: "r2" | "s3" | "b2"): Promise<string | undefined> {
  if (kind === "b2") return undefined;
  const text = await ask.text("Address of the service", {
    initial: kind === "r2" ? "https://ACCOUNT.r2.cloudflarestorage.com" : "https://s3.REGION.amazonaws.com",
    problem: (given) => {
      if (/ACCOUNT|REGION/.test(given)) return "put your own account or region in";
      return /^https?:\/\/[^/@]+\/?$/.test(given) ? null : "such as https://host, without bucket or password";
    },
  });
  return text.replace(/\/$/, "");
}
