export interface KitFacts {
  site: string;
  madeAt: Date;
  /** Private keys; null for a passphrase, which is never written down by jbackup. */
  identities: (string | null)[];
  recipients: string[];
  signers: string[];
  storages: string[];
  script: string;
}

/** Printed and locked away, this opens the backups without the machine that made them and without jbackup. */
export const kitText = (facts: KitFacts): string => `RECOVERY KIT of site ${facts.site}
Made ${facts.madeAt.toISOString()}. Whoever holds this can read every backup: print it, lock it away, delete the file.

1. PRIVATE KEYS (they open the backups)
${facts.identities.map((identity, index) => `   ${identity ?? "a passphrase (not written here: keep it where you keep passwords)"}\n   its public half: ${facts.recipients[index]}`).join("\n")}

2. WHOSE SIGNATURES ARE GENUINE (backups signed by others are not yours)
${facts.signers.map((signer) => `   ${signer}`).join("\n")}

3. WHERE THE BACKUPS ARE
${facts.storages.map((storage) => `   ${storage}`).join("\n")}

4. WITH JBACKUP
   Put the private key into a file with mode 600, and into jbackup.yaml:
     keys: {recipients: [PUBLIC HALF], signing: {file: NEW SIGNING KEY}, signers: [FROM PART 2], identity: {file: THAT FILE}}
   Then: jbackup catalog rebuild; jbackup list; jbackup restore latest --mode full --reason "recovery"

5. WITHOUT JBACKUP
   Copy a storage's folder to this machine. Save everything below the line as recover.mjs; it needs Node 22.15 or newer and nothing else.
     node recover.mjs list FOLDER
     node recover.mjs open BACKUP_FOLDER --identity KEY_FILE --signer FROM_PART_2 --out NEW_FOLDER
     pg_restore --create --dbname=postgres NEW_FOLDER/database.pgdump

-------------------------------- recover.mjs --------------------------------
${facts.script}`;
