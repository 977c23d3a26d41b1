import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { auditHeadIn } from "../../src/domain/auditHead.js";
import { Secret } from "../../src/domain/secret.js";
import {
  commitmentOf,
  contentsContext,
  generateIdentity,
  generateSigning,
  type Identity,
  newDataKey,
  openContents,
  openEntry,
  packContext,
  readManifest,
  recipientOf,
  sealObject,
  signManifest,
  unwrapDataKey,
  verifySealed,
  wrapDataKey,
} from "../../src/format/format.js";
import { collect, inChunks, sourceOf } from "./support.js";

const FIXTURE = join(import.meta.dirname, "../fixtures/format-1");
const RECOVER = join(import.meta.dirname, "../../bin/recover.mjs");
const scratch = mkdtempSync(join(tmpdir(), "jbackup-format-"));
afterAll(() => rmSync(scratch, { recursive: true }));

const filesOf = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => statSync(join(folder, name)).isFile())
    .toSorted();

const textOf = (name: string): string => readFileSync(join(FIXTURE, name), "utf8").trim();
const signer = textOf("signer.txt");
const identityFile = join(FIXTURE, "identity.txt");
const passphraseFile = join(FIXTURE, "passphrase.txt");
const expected = join(FIXTURE, "expected");
const backups = filesOf(join(FIXTURE, "storage"))
  .filter((name) => name.endsWith("manifest.json"))
  .map((name) => dirname(join(FIXTURE, "storage", name)));
const [first = ""] = backups;

const identity = textOf("identity.txt").split("\n").at(-1) as string;
const identities: Identity[] = [
  { kind: "x25519", identity: new Secret(identity) },
  { kind: "passphrase", passphrase: new Secret(textOf("passphrase.txt")) },
];

it("the fixture holds one backup per codec", () => {
  expect(backups).toHaveLength(3);
});

it("manifests from before their keys were signed are valid", () => {
  for (const folder of backups) {
    const read = readManifest(readFileSync(join(folder, "manifest.json")), { signers: [signer] });
    expect([read.keysAre, read.keysSince]).toEqual(["unsigned", null]);
  }
});

it("manifests from before they told of the audit are valid, and say nothing of it", () => {
  for (const folder of backups) {
    const { body } = readManifest(readFileSync(join(folder, "manifest.json")), { signers: [signer] });
    expect(auditHeadIn(body.metadata)).toBeNull();
  }
});

describe.each(backups)("the library opens %s", (folder) => {
  const source = async (name: string) => sourceOf(readFileSync(join(folder, name)));
  const manifest = readManifest(readFileSync(join(folder, "manifest.json")), { signers: [signer] });
  const { backupId, keyCommitment: commitment, objects } = manifest.body;

  it.each(identities)("with a $kind key", async (key) => {
    const dataKey = await unwrapDataKey(manifest.keys, [key], { backupId, commitment });
    const contents = await openContents(await source("contents.jbk"), dataKey, manifest.body);
    expect(contents.detail).toEqual({ tables: { "app.orders": 3000 } });
    expect(contents.entries.map(({ name }) => name).toSorted()).toEqual(filesOf(expected));
    for (const entry of contents.entries) {
      const bytes = await collect(openEntry(entry, { ...manifest.body, dataKey, source }));
      expect(bytes.equals(readFileSync(join(expected, entry.name)))).toBe(true);
    }
    for (const { name } of objects) {
      const context =
        name === "contents.jbk" ? contentsContext(manifest.body) : packContext(manifest.body, name);
      expect(await verifySealed(await source(name), dataKey, context)).toBeGreaterThan(0);
    }
  });
});

interface Outcome {
  code: number;
  stdout: Buffer;
  stderr: string;
}

const recover = (...args: string[]): Promise<Outcome> =>
  new Promise((resolve) => {
    execFile(process.execPath, [RECOVER, ...args], { encoding: "buffer" }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr: stderr.toString("utf8") });
    });
  });

describe("recover.mjs", () => {
  it("shows how it is used, examples first", async () => {
    const { code, stdout } = await recover("--help");
    expect(code).toBe(0);
    expect(stdout.toString()).toMatch(
      /^Opens jbackup backups with nothing but Node\.\n\n {2}node recover\.mjs list/,
    );
  });

  it("imports nothing but Node's own modules", () => {
    const imports = [...readFileSync(RECOVER, "utf8").matchAll(/from "([^"]+)"|import\("([^"]+)"\)/g)];
    expect(imports.length).toBeGreaterThan(4);
    for (const [, name = ""] of imports) expect(name).toMatch(/^node:/);
  });

  it("lists the backups of a folder by time", async () => {
    const { code, stdout } = await recover("list", join(FIXTURE, "storage"));
    expect(code).toBe(0);
    const kinds = stdout
      .toString()
      .trim()
      .split("\n")
      .map((line) => line.split("  ")[1]);
    expect(kinds).toEqual(["full", "tenant", "config"]);
  });

  it.each(backups)("writes every entry of %s", async (folder) => {
    const out = mkdtempSync(join(scratch, "out-"));
    const { code, stderr } = await recover(
      "open",
      folder,
      "--identity",
      identityFile,
      "--signer",
      signer,
      "--out",
      out,
    );
    expect(stderr).not.toContain("WARNING");
    expect(code).toBe(0);
    expect(filesOf(out)).toEqual(filesOf(expected));
    for (const name of filesOf(out)) {
      expect(readFileSync(join(out, name)).equals(readFileSync(join(expected, name)))).toBe(true);
      expect(statSync(join(out, name)).mode & 0o777).toBe(0o600);
    }
  });

  it("pipes one entry, opened by the passphrase, and warns when no signer is given", async () => {
    const { code, stdout, stderr } = await recover(
      ...["open", first, "--passphrase-file", passphraseFile, "--stdout", "database.copy"],
    );
    expect(code).toBe(0);
    expect(stdout.equals(readFileSync(join(expected, "database.copy")))).toBe(true);
    expect(stderr).toContain("WARNING: no --signer was given.");
    expect(stderr).toContain(signer);
  });

  it("never overwrites a file", async () => {
    const out = mkdtempSync(join(scratch, "out-"));
    writeFileSync(join(out, "globals.sql"), "mine");
    const { code, stderr } = await recover(
      "open",
      first,
      "--identity",
      identityFile,
      "--signer",
      signer,
      "--out",
      out,
    );
    expect(code).toBe(1);
    expect(stderr).toContain(`Error: ${join(out, "globals.sql")} exists\nTry: Give --out a new folder.\n`);
    expect(readFileSync(join(out, "globals.sql"), "utf8")).toBe("mine");
    expect(filesOf(out)).toEqual(["globals.sql"]);
  });

  it("refuses another signer, with exit code 4", async () => {
    const { code, stderr } = await recover("show", first, "--signer", generateSigning().signer);
    expect(code).toBe(4);
    expect(stderr).toContain(`is signed by ${signer}, not by the signer you gave`);
  });

  it("says which keys would open the backup, with exit code 12", async () => {
    const stranger = join(scratch, "stranger.txt");
    writeFileSync(stranger, generateIdentity().identity.reveal());
    const { code, stderr } = await recover(
      "open",
      first,
      "--identity",
      stranger,
      "--signer",
      signer,
      "--stdout",
      "x",
    );
    expect(code).toBe(12);
    expect(stderr).toMatch(
      /^Error: no key given opens backup \S+\nTry: It opens with the identity of jbk1pub\w+ or a passphrase\.\n$/,
    );
  });

  it.each(["--identity", "--passphrase-file"])(
    "says that the file of %s is not there, with exit code 12",
    async (flag) => {
      const { code, stderr } = await recover("show", first, flag, "/none");
      expect(code).toBe(12);
      expect(stderr).toMatch(/^Error: there is no file \/none\nTry: .*recovery kit/m);
    },
  );

  it.each([
    [["open"], "open needs exactly one folder"],
    [["unpack", "x"], "there is no command unpack"],
    [["open", first, "--out", "x"], "open needs --identity FILE or --passphrase-file FILE"],
    [["open", first, "--identity", identityFile], "open needs either --out DIR or --stdout ENTRY"],
    [["show", scratch], "is not a backup folder: it has no manifest.json"],
    [["show", first, "--identity", "/"], "cannot read /"],
    [["show", first, "--verbose"], "Unknown option '--verbose'"],
  ])("calls %j wrong usage", async (args, text) => {
    const { code, stderr } = await recover(...args);
    expect(stderr).toContain(text);
    expect(code).toBe(2);
  });

  it.each([
    ["manifest.json", "was changed after it was signed"],
    ["data/000001.jbk", "is damaged: its SHA-256 is not the one that was signed"],
    ["contents.jbk", "is damaged at frame 0"],
  ])("refuses a damaged %s, with exit code 4, and writes nothing", async (name, text) => {
    const copy = mkdtempSync(join(scratch, "copy-"));
    cpSync(first, copy, { recursive: true });
    const bytes = readFileSync(join(copy, name));
    const at = name === "manifest.json" ? bytes.indexOf("fixture") : Math.floor(bytes.length / 2);
    bytes[at] = (bytes[at] as number) ^ 1;
    writeFileSync(join(copy, name), bytes);
    const out = join(copy, "out");
    const { code, stderr } = await recover(
      "open",
      copy,
      "--identity",
      identityFile,
      "--signer",
      signer,
      "--out",
      out,
    );
    expect(stderr).toContain(text);
    expect(code).toBe(4);
    expect(() => readdirSync(out)).toThrow("ENOENT");
  });

  it.each(["../escaped", "/tmp/escaped", "a/../../escaped", "a\u0000b"])(
    "refuses the entry name %j",
    async (name) => {
      const folder = mkdtempSync(join(scratch, "hostile-"));
      writeFileSync(join(folder, "manifest.json"), await hostileBackup(folder, name));
      const out = join(folder, "out");
      const { code, stderr } = await recover("open", folder, "--identity", identityFile, "--out", out);
      expect(stderr).toContain(`Error: an entry has an unsafe name: ${JSON.stringify(name)}\n`);
      expect(code).toBe(4);
      expect(filesOf(folder)).toEqual(["contents.jbk", "manifest.json"]);
    },
  );

  /** Everything about it is in order but the name of its one entry. */
  async function hostileBackup(folder: string, name: string): Promise<Buffer> {
    const { body } = readManifest(readFileSync(join(first, "manifest.json")), { signers: [signer] });
    const dataKey = newDataKey();
    const entry = { name, bytes: 0, sha256: createHash("sha256").digest("hex"), segments: [] };
    const text = Buffer.from(JSON.stringify({ format: 1, entries: [entry], detail: {} }));
    const compression = { codec: "zstd", level: 3 } as const;
    const object = await sealObject(inChunks(text), { dataKey, context: contentsContext(body), compression });
    writeFileSync(join(folder, object.name), Buffer.concat(object.chunks));
    const recipient = { kind: "x25519", publicKey: recipientOf(new Secret(identity)) } as const;
    const keys = await wrapDataKey(dataKey, [recipient], body.backupId);
    const objects = [{ name: object.name, bytes: object.bytes, sha256: object.sha256 }];
    const planted = { ...body, objects, keyCommitment: commitmentOf(dataKey) };
    return signManifest(planted, keys, generateSigning().signing);
  }
});
