import type { CommandSpec } from "../tree.js";

/** What backups are sealed with, where they are listed, and where they are kept. */
export const KEEPING_COMMANDS: CommandSpec[] = [
  {
    usage: "keys new",
    summary: "make a key pair and a signing key",
    options: [["--out <directory>", "folder for the four files (default: jbackup-keys)"]],
    examples: [
      ["jbackup keys new --out /etc/jbackup/keys", "private halves are readable by their owner only"],
    ],
    exits: [0, 1, 2, 14],
    load: () => import("../commands/keysNew.js"),
  },
  {
    usage: "keys list",
    summary: "who can open new backups, and whose signatures are believed",
    examples: [["jbackup keys list", "recipients and signers"]],
    exits: [0, 1, 2, 12],
    load: () => import("../commands/keysList.js"),
  },
  {
    usage: "keys test [backup]",
    summary: "prove that this host's key opens a backup",
    examples: [["jbackup keys test", "the newest backup"]],
    exits: [0, 1, 2, 4, 10, 12],
    load: () => import("../commands/keysTest.js"),
  },
  {
    usage: "keys rotate",
    summary: "seal the data keys of all backups for today's recipients",
    examples: [["jbackup keys rotate", "after changing keys.recipients; objects stay as they are"]],
    exits: [0, 1, 2, 3, 11, 12, 130, 143],
    load: () => import("../commands/keysRotate.js"),
  },
  {
    usage: "keys kit",
    summary: "write the offline recovery kit: print it and lock it away",
    options: [["--out <file>", "where to (default: jbackup-recovery-kit.txt)"]],
    examples: [
      ["jbackup keys kit --out /media/usb/kit.txt", "keys, places, and a script that needs no jbackup"],
    ],
    exits: [0, 1, 2, 12, 14],
    load: () => import("../commands/keysKit.js"),
  },
  {
    usage: "catalog migrate",
    summary: "bring the catalog's tables up to date",
    examples: [["jbackup catalog migrate", "also done by itself when a command opens an older catalog"]],
    exits: [0, 1, 2, 16],
    load: () => import("../commands/catalogMigrate.js"),
  },
  {
    usage: "catalog rebuild",
    summary: "read the manifests in the storages back into the catalog",
    options: [["--from <storage>", "only this storage (default: all)"]],
    examples: [["jbackup catalog rebuild --from local", "after the catalog was lost"]],
    exits: [0, 1, 2, 3, 10, 12],
    load: () => import("../commands/catalogRebuild.js"),
  },
  {
    usage: "storages check [storage...]",
    summary: "try each storage for real: put, get, range, list, overwrite refused, delete",
    examples: [
      ["jbackup storages check", "before trusting a bucket"],
      ["jbackup storages check r2", "only this one"],
    ],
    exits: [0, 1, 2, 10],
    load: () => import("../commands/storagesCheck.js"),
  },
];
