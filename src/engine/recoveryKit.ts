import { placeText, type StoragePlace } from "../domain/kitRecord.js";
import { quoted } from "../domain/siteDraft.js";

export interface KitFacts {
  site: string;
  madeAt: Date;
  /** Whose password, if it has one, is left out. */
  databaseUrl: string;
  /** Private keys; null for a passphrase, which is never written down by jbackup. */
  identities: (string | null)[];
  /** Their public halves. */
  recipients: string[];
  /** For whom backups are sealed now. */
  sealedFor: string[];
  signers: string[];
  storages: StoragePlace[];
  script: string;
}

export const withoutPassword = (url: string): string =>
  url
    .replace(/^([a-z0-9+.-]+:\/\/[^/@:]*):[^/]*@/i, "$1@")
    .replace(/[?&](?:password|passwd)=[^&#]*/gi, "")
    .replace(/^([^?]*)&/, "$1?");

const variable = (name: string, end: string): string =>
  `{env: ${`${name}_${end}`.toUpperCase().replace(/[^A-Z0-9_]/g, "_")}}`;

function storageLine(storage: StoragePlace): string {
  const { name } = storage;
  if (storage.kind === "local")
    return `  - {name: ${quoted(name)}, kind: local, path: ${quoted(storage.path)}}    # where its folder is on the new host`;
  const place = [
    ...(storage.endpoint === undefined ? [] : [`endpoint: ${quoted(storage.endpoint)}`]),
    `bucket: ${quoted(storage.bucket)}`,
    ...(storage.prefix === "" ? [] : [`prefix: ${quoted(storage.prefix)}`]),
  ];
  const rest =
    storage.kind === "s3"
      ? [
          ...place,
          `region: ${quoted(storage.region)}`,
          `accessKeyId: ${variable(name, "ID")}`,
          `secretAccessKey: ${variable(name, "SECRET")}`,
        ]
      : [...place, `keyId: ${variable(name, "ID")}`, `applicationKey: ${variable(name, "SECRET")}`];
  return `  - {name: ${quoted(name)}, kind: ${storage.kind}, ${rest.join(", ")}}`;
}

/** All that a new host's jbackup.yaml must say to bring the site back. */
export function kitConfig({ site, databaseUrl, identities, signers, storages }: KitFacts): string {
  const identity = identities.some((one) => one !== null)
    ? "{file: identity}"
    : "{passphrase: {file: identity}}";
  return [
    `site: ${quoted(site)}`,
    `database: {url: ${JSON.stringify(withoutPassword(databaseUrl))}}`,
    "keys:",
    `  identity: ${identity}`,
    `  signers: [${signers.map(quoted).join(", ")}]`,
    "storages:",
    ...storages.map(storageLine),
  ].join("\n");
}

const indented = (text: string): string => text.replace(/^/gm, "     ");

function keyLines({ identities, recipients, sealedFor }: KitFacts): string {
  const away = sealedFor.filter((one) => !recipients.includes(one));
  return [
    ...identities.map(
      (identity, at) =>
        `   ${identity ?? "a passphrase (not written here: keep it where you keep passwords)"}\n   its public half: ${recipients[at]}`,
    ),
    "   They open what is sealed for these public halves, and nothing else.",
    ...away.map((one) => `   Backups are sealed for ${one} too; its private key is NOT in this kit.`),
  ].join("\n");
}

/** Printed and locked away, this opens the backups without the machine that made them and without jbackup. */
export const kitText = (facts: KitFacts): string => `RECOVERY KIT of site ${facts.site}
Made ${facts.madeAt.toISOString()}. Whoever holds this can read every backup that is sealed for its keys: print it, lock it away, delete the file.

1. PRIVATE KEYS (they open the backups)
${keyLines(facts)}

2. WHOSE SIGNATURES ARE GENUINE (backups signed by others are not yours)
${facts.signers.map((signer) => `   ${signer}`).join("\n")}

3. WHERE THE BACKUPS ARE
${facts.storages.map((storage) => `   ${placeText(storage)}`).join("\n")}

4. WITH JBACKUP, ON A NEW HOST
   Install jbackup, and PostgreSQL of the old version. In a folder of your own write one private key of part 1, the line alone,
   into a file named identity (chmod 600), and these lines into a file named jbackup.yaml:

${indented(kitConfig(facts))}

   Credentials of storages are not in this kit: set the variables that are named above. The lost server is not asked for anything.
   Then, in that folder:
     jbackup keys test
     jbackup catalog rebuild
     jbackup list
   The whole cluster, up to the last archived moment, into a directory that is empty or not there yet:
     jbackup restore --mode pitr --to latest --into-dir NEW_DIRECTORY --reason "recovery"
   or the same step by step, the server started and looked at:
     jbackup dr run server-lost --set directory=NEW_DIRECTORY
   A logical backup goes into a running server instead: name that server in database.url, then
     jbackup restore latest --mode full --into-db NEW_DATABASE --reason "recovery"
   The signing key is not in this kit, and bringing back needs none. To back up from the new host make a new set, and add it to keys:
     jbackup keys new --out NEW_KEYS
     recipients: [LINE OF NEW_KEYS/recipient, PUBLIC HALVES OF PART 1], signing: {file: NEW_KEYS/signing}

5. WITHOUT JBACKUP
   Copy a storage's folder to this machine. Save everything below the line as recover.mjs; it needs Node 22.15 or newer and nothing else.
     node recover.mjs list FOLDER
     node recover.mjs open BACKUP_FOLDER --identity KEY_FILE --signer FROM_PART_2 --out NEW_FOLDER
   It says what it wrote. A physical backup becomes the data directory of a cluster: do what it prints behind "Next:" (give NEW_FOLDER
   to the user of the server, start it there). For what came after the backup it names the WAL, which this brings out:
     node recover.mjs wal FOLDER --identity KEY_FILE --out WAL_FOLDER
   A logical backup becomes a file database.pgdump:
     pg_restore --create --dbname=postgres NEW_FOLDER/database.pgdump

-------------------------------- recover.mjs --------------------------------
${facts.script}`;
