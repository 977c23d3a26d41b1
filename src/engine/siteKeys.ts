import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { IdentityConfig } from "../config/config.js";
import { isJBackupError, JBackupError, reasonOf } from "../domain/errors.js";
import { Secret } from "../domain/secret.js";
import type { Identity, Recipient } from "../format/format.js";
import { writeFileAtomic } from "../sys/atomicFile.js";
import type { Site } from "./site.js";

export interface SealingKeys {
  recipients: Recipient[];
  signing: Secret;
  signer: string;
}

const read = async (file: string): Promise<string | null> => {
  try {
    return (await readFile(file, "utf8")).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new JBackupError("secret_unavailable", `cannot read ${file}: ${reasonOf(error)}`, {
      hint: "run as the user that owns the keys",
      cause: error,
    });
  }
};

/** Makes a key pair and a signing key in a folder; private halves for the owner's eyes only. Existing files are never touched. */
export async function createKeys(
  format: Site["format"],
  directory: string,
): Promise<{ directory: string; recipient: string; signer: string }> {
  const present = await read(join(directory, "identity"));
  if (present !== null) {
    throw new JBackupError("target_refused", `${join(directory, "identity")} exists already`, {
      hint: "name another folder with --out: an identity that is overwritten can open nothing any more",
    });
  }
  const { identity, recipient } = format.generateIdentity();
  const { signing, signer } = format.generateSigning();
  // public halves first: the identity's presence says that the set is complete
  for (const [name, text] of [
    ["recipient", recipient],
    ["signer", signer],
    ["signing", signing.reveal()],
    ["identity", identity.reveal()],
  ] as const)
    await writeFileAtomic(join(directory, name), `${text}\n`);
  return { directory, recipient, signer };
}

/** The keys to seal and sign with. A site that names none gets its own at the first backup, and is told to copy them. */
export async function sealingKeys(site: Site): Promise<SealingKeys> {
  const { keys } = site.config;
  if (keys.generatedIn !== null) return generatedKeys(site, keys.generatedIn);
  if (keys.recipients.length === 0)
    throw new JBackupError(
      "config_invalid",
      "keys.recipients and keys.signing are missing: this host restores, and cannot seal",
      { hint: "to back up from here name both in jbackup.yaml: jbackup keys new makes a complete set" },
    );
  if (keys.signing === null)
    throw new JBackupError("config_invalid", "keys.signing is missing: backups must be signed", {
      hint: "jbackup keys new makes a complete set",
    });
  const signing = trimmed(await keys.signing());
  return { recipients: await recipientsOf(site), signing, signer: site.format.signerOf(signing) };
}

/** For whom backups are sealed: nobody on a host that only restores. */
export async function recipientsOf(site: Site): Promise<Recipient[]> {
  const { keys } = site.config;
  if (keys.generatedIn !== null) return (await generatedKeys(site, keys.generatedIn)).recipients;
  return Promise.all(
    keys.recipients.map(
      async (recipient): Promise<Recipient> =>
        recipient.kind === "x25519"
          ? { kind: "x25519", publicKey: site.format.checkRecipient(recipient.publicKey) }
          : { kind: "passphrase", passphrase: await recipient.passphrase() },
    ),
  );
}

/** What a recipient is called: its public half, or that it is a passphrase. */
export const recipientName = (recipient: Recipient): string =>
  recipient.kind === "x25519" ? recipient.publicKey : "passphrase";

const trimmed = (secret: Secret): Secret => new Secret(secret.reveal().trim());

async function generatedKeys(site: Site, directory: string): Promise<SealingKeys> {
  if ((await read(join(directory, "identity"))) === null) {
    if ((await read(join(directory, "recipient"))) !== null)
      throw new JBackupError(
        "no_key",
        `there is no file ${join(directory, "identity")} beside the other keys`,
        {
          hint: `bring it back from the recovery kit; a host that only backs up names keys.recipients and keys.signing in jbackup.yaml; if nothing was ever sealed for it, remove ${directory}`,
        },
      );
    await createKeys(site.format, directory);
    site.report.warn(
      `made a key pair in ${directory}: without the file identity no backup can be opened. Copy it off this machine now: jbackup keys kit`,
    );
  }
  const [recipient, signing] = await Promise.all([
    read(join(directory, "recipient")),
    read(join(directory, "signing")),
  ]);
  if (recipient === null || signing === null)
    throw new JBackupError("secret_unavailable", `the keys in ${directory} are not complete`, {
      hint: `bring back recipient and signing in ${directory} from the recovery kit, or name keys in jbackup.yaml`,
    });
  const secret = new Secret(signing);
  site.onSecret(signing);
  return {
    recipients: [{ kind: "x25519", publicKey: recipient }],
    signing: secret,
    signer: site.format.signerOf(secret),
  };
}

/** The public halves whose signatures are believed. */
export async function trustedSigners(site: Site): Promise<string[]> {
  const { keys } = site.config;
  const signers = keys.signers.map((signer) => site.format.checkSigner(signer));
  if (keys.generatedIn !== null) {
    const own = await read(join(keys.generatedIn, "signer"));
    if (own !== null) signers.push(own);
  } else if (keys.signing !== null) {
    signers.push(site.format.signerOf(trimmed(await keys.signing())));
  }
  if (signers.length > 0) return [...new Set(signers)];
  throw new JBackupError("no_key", "no signer is known, so no backup can be believed", {
    hint: "put the public half of the signing key (jbk1ver...) into keys.signers; it stands in the recovery kit",
  });
}

/** Of each, only the first time: the same error comes again whenever the key is asked for. */
const toldMissing = new WeakSet<Error>();

/** The private keys that this host has. Where one is missing, another may do; where all are, nothing can be opened. */
export async function identities(site: Site): Promise<Identity[]> {
  const { keys } = site.config;
  if (keys.generatedIn !== null) {
    const identity = await read(join(keys.generatedIn, "identity"));
    if (identity === null) return [];
    site.onSecret(identity);
    return [{ kind: "x25519", identity: new Secret(identity) }];
  }
  const held: Identity[] = [];
  const missing: JBackupError[] = [];
  for (const wanted of keys.identities) {
    try {
      held.push(await fetchIdentity(wanted));
    } catch (error) {
      if (!isJBackupError(error, "no_key")) throw error;
      missing.push(error);
    }
  }
  if (held.length === 0 && missing[0] !== undefined) throw missing[0];
  for (const error of missing) {
    if (!toldMissing.has(error)) site.report.warn(`${error.message}; going on with the other keys`);
    toldMissing.add(error);
  }
  return held;
}

const fetchIdentity = async (wanted: IdentityConfig): Promise<Identity> =>
  wanted.kind === "x25519"
    ? { kind: "x25519", identity: trimmed(await wanted.identity()) }
    : { kind: "passphrase", passphrase: await wanted.passphrase() };
