#!/usr/bin/env node
// Opens jbackup backups without jbackup: this one file, Node's own modules, a backup folder and a key.
// It follows src/format/FORMAT.md and shares no code with jbackup, so that one's mistake is not the other's.
import * as crypto from "node:crypto";
import { once } from "node:events";
import * as fs from "node:fs";
import * as path from "node:path";
import { parseArgs } from "node:util";
import * as zlib from "node:zlib";

const HELP = `Opens jbackup backups with nothing but Node.

  node recover.mjs list /mnt/storage
  node recover.mjs show /mnt/storage/backups/full/2026/11/ID --identity key.txt
  node recover.mjs open /mnt/storage/backups/full/2026/11/ID --identity key.txt --signer jbk1ver... --out restored
  node recover.mjs open /mnt/storage/backups/full/2026/11/ID --passphrase-file pass.txt --stdout database.dump | pg_restore -d shop

  list FOLDER            the backups below a folder (a copy of a storage, or any part of it)
  show BACKUP_FOLDER     what one backup is; with a key also what is in it
  open BACKUP_FOLDER     write its entries to --out DIR, or one of them to standard output

  --identity FILE        the private key: a file with a line jbk1sec...
  --passphrase-file FILE the passphrase, if the backup was sealed for one
  --signer jbk1ver...    the site's public signing key, from the recovery kit: proves who made the backup
  --out DIR              where entries go; existing files are never overwritten
  --stdout ENTRY         write this one entry to standard output
  --help                 this text

Exit codes: 0 done, 1 failed, 2 wrong usage, 4 the backup is damaged or forged, 12 no key opens it.
`;

class Failure extends Error {
  constructor(exitCode, message, hint) {
    super(message);
    this.exitCode = exitCode;
    this.hint = hint;
  }
}
const damaged = (message) => new Failure(4, message, "Try the copy of this backup in another storage.");
const usage = (message) => new Failure(2, message, "See node recover.mjs --help.");
const say = (text) => process.stderr.write(`${text}\n`);

// ---- keys -------------------------------------------------------------------------------------------

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";

function base32(bytes) {
  let bits = "";
  for (const byte of bytes) bits += byte.toString(2).padStart(8, "0");
  return (bits.match(/.{1,5}/g) ?? [])
    .map((five) => ALPHABET[Number.parseInt(five.padEnd(5, "0"), 2)])
    .join("");
}

function keyText(prefix, bytes) {
  const checksum = crypto.createHash("sha256").update(prefix).update(bytes).digest().subarray(0, 4);
  return prefix + base32(Buffer.concat([bytes, checksum]));
}

function keyBytes(prefix, text, what) {
  const clean = text.trim().toLowerCase();
  const letters = [...clean.slice(prefix.length)];
  if (!clean.startsWith(prefix) || letters.some((letter) => !ALPHABET.includes(letter)))
    throw usage(`${what} does not hold a key that begins with ${prefix}`);
  const bits = letters.map((letter) => ALPHABET.indexOf(letter).toString(2).padStart(5, "0")).join("");
  const bytes = Buffer.from((bits.match(/.{8}/g) ?? []).map((eight) => Number.parseInt(eight, 2)));
  const key = bytes.subarray(0, 32);
  if (keyText(prefix, key) !== clean)
    throw usage(`the key in ${what} is mistyped: its checksum does not match`);
  return key;
}

const der = (hex, bytes) => Buffer.concat([Buffer.from(hex, "hex"), bytes]);
const x25519Private = (bytes) =>
  crypto.createPrivateKey({
    key: der("302e020100300506032b656e04220420", bytes),
    format: "der",
    type: "pkcs8",
  });
const x25519Public = (bytes) =>
  crypto.createPublicKey({ key: der("302a300506032b656e032100", bytes), format: "der", type: "spki" });
const ed25519Public = (bytes) =>
  crypto.createPublicKey({ key: der("302a300506032b6570032100", bytes), format: "der", type: "spki" });
const hkdf = (secret, salt, info, bytes) => Buffer.from(crypto.hkdfSync("sha256", secret, salt, info, bytes));

function readIdentity(file) {
  const line = readText(file)
    .split("\n")
    .find((text) => text.trim().toLowerCase().startsWith("jbk1sec"));
  if (line === undefined) throw usage(`${file} holds no line that begins with jbk1sec`);
  const privateKey = x25519Private(keyBytes("jbk1sec", line, file));
  const publicBytes = crypto
    .createPublicKey(privateKey)
    .export({ format: "der", type: "spki" })
    .subarray(-32);
  return { privateKey, publicBytes, recipient: keyText("jbk1pub", publicBytes) };
}

function readText(file) {
  try {
    return fs.readFileSync(file, "utf8");
  } catch (error) {
    throw usage(`cannot read ${file}: ${error.message}`);
  }
}

/** The data key, checked against the signed commitment. */
function unwrap({ body, keys }, options) {
  const secrets = [];
  if (options.identity !== undefined) {
    const identity = readIdentity(options.identity);
    for (const key of keys)
      if (key.kind === "x25519" && key.recipient === identity.recipient) {
        const ephemeral = Buffer.from(key.ephemeral, "base64");
        let shared;
        try {
          shared = crypto.diffieHellman({
            privateKey: identity.privateKey,
            publicKey: x25519Public(ephemeral),
          });
        } catch {
          continue;
        }
        const salt = Buffer.concat([ephemeral, identity.publicBytes]);
        secrets.push([key, hkdf(shared, salt, `jbackup/1 wrap x25519\0${body.backupId}`, 32)]);
      }
  }
  if (options["passphrase-file"] !== undefined) {
    const passphrase = readText(options["passphrase-file"])
      .replace(/\r?\n$/, "")
      .normalize("NFKC");
    if (passphrase.trim() === "") throw usage(`${options["passphrase-file"]} is empty`);
    for (const key of keys)
      if (key.kind === "scrypt") {
        if (!(key.n * key.r <= 2 ** 20 && key.r <= 32 && key.p <= 4))
          throw damaged("the passphrase key of this backup asks for more memory than any real one does");
        const salt = Buffer.from(key.salt, "base64");
        const cost = { N: key.n, r: key.r, p: key.p, maxmem: 192 * 2 ** 20 };
        const stretched = crypto.scryptSync(passphrase, salt, 32, cost);
        secrets.push([key, hkdf(stretched, salt, `jbackup/1 wrap scrypt\0${body.backupId}`, 32)]);
      }
  }
  for (const [key, secret] of secrets) {
    const sealed = Buffer.from(key.sealed, "base64");
    const dataKey = sealed.length === 48 && gcmOpen(secret, Buffer.alloc(12), Buffer.alloc(0), sealed);
    if (!dataKey) continue;
    const commitment = crypto.createHmac("sha256", dataKey).update("jbackup/1 key commitment").digest("hex");
    if (commitment === body.keyCommitment) return dataKey;
  }
  const openers = keys.map((key) =>
    key.kind === "x25519" ? `the identity of ${key.recipient}` : "a passphrase",
  );
  throw new Failure(
    12,
    `no key given opens backup ${body.backupId}`,
    `It opens with ${openers.join(" or ")}.`,
  );
}

function gcmOpen(key, nonce, associated, sealed) {
  const decipher = crypto.createDecipheriv("aes-256-gcm", key, nonce, { authTagLength: 16 });
  decipher.setAAD(associated);
  decipher.setAuthTag(sealed.subarray(-16));
  const opened = decipher.update(sealed.subarray(0, -16));
  try {
    decipher.final();
  } catch {
    return undefined;
  }
  return opened;
}

// ---- the manifest -----------------------------------------------------------------------------------

function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${fields.map(([key, inner]) => `${JSON.stringify(key)}:${canonical(inner)}`).join(",")}}`;
}

function readManifest(folder, trusted) {
  const file = path.join(folder, "manifest.json");
  let manifest;
  try {
    if (fs.statSync(file).size > 64 * 2 ** 20) throw damaged(`${file} is larger than any manifest`);
    manifest = JSON.parse(fs.readFileSync(file, "utf8"));
  } catch (error) {
    if (error instanceof Failure) throw error;
    if (error.code === "ENOENT") throw usage(`${folder} is not a backup folder: it has no manifest.json`);
    throw damaged(`${file} cannot be read: ${error.message}`);
  }
  const { body, keys, signature } = manifest ?? {};
  if (typeof body !== "object" || body === null || !Array.isArray(keys) || !Array.isArray(body.objects))
    throw damaged(`${file} is not a manifest`);
  if (typeof signature?.signer !== "string" || typeof signature.value !== "string")
    throw damaged(`${file} is not signed`);
  if (trusted !== undefined && signature.signer !== trusted)
    throw damaged(`${file} is signed by ${signature.signer}, not by the signer you gave`);
  const signed = Buffer.from(`jbackup/1 manifest\0${canonical(body)}`, "utf8");
  const key = ed25519Public(keyBytes("jbk1ver", signature.signer, file));
  if (!crypto.verify(null, signed, key, Buffer.from(signature.value, "base64")))
    throw damaged(`${file} was changed after it was signed`);
  if (body.format !== 1) throw new Failure(1, `${file} has format ${body.format}; this script reads 1`);
  for (const object of body.objects)
    if (!isSafe(object.name)) throw damaged(`${file} names an unsafe object`);
  return manifest;
}

const isSafe = (name) =>
  typeof name === "string" &&
  name !== "" &&
  !/\p{Cc}/u.test(name) &&
  name.split("/").every((part) => part !== "" && part !== "." && part !== "..") &&
  !(path.sep === "\\" && /[\\:]/.test(name));

// ---- containers -------------------------------------------------------------------------------------

const MAGIC = Buffer.from("894a424b0d0a1a0a", "hex");
const CODECS = ["none", "gzip", "zstd"];

/** One .jbk file: its key and where its frames are. Reads only what is asked for. */
class Container {
  constructor(file, dataKey, context) {
    this.name = context.name;
    try {
      this.fd = fs.openSync(file, "r");
    } catch (error) {
      throw damaged(`${context.name} is missing: ${error.message}`);
    }
    this.bytes = fs.fstatSync(this.fd).size;
    const start = this.readAt(0, 12);
    if (!start.subarray(0, 8).equals(MAGIC)) throw damaged(`${this.name} is not a jbackup container`);
    const headerBytes = start.readUInt16BE(10);
    const header = this.readAt(0, headerBytes);
    const digest = crypto.createHash("sha256").update(header).digest();
    const tail = this.readAt(headerBytes, 20);
    if (!digest.subarray(0, 4).equals(tail.subarray(0, 4)))
      throw damaged(`${this.name} has a damaged header`);
    if (header[8] !== 1)
      throw new Failure(1, `${this.name} has container version ${header[8]}; this script reads 1`);
    this.codec = CODECS[header[9]];
    this.frameBytes = header.readUInt32BE(12);
    this.refuseForeign(header, context);
    const info = Buffer.concat([Buffer.from("jbackup/1 object\0"), digest]);
    const derived = hkdf(dataKey, header.subarray(16, 48), info, 48);
    if (!derived.subarray(32).equals(tail.subarray(4)))
      throw damaged(`${this.name} belongs to another backup`);
    this.key = derived.subarray(0, 32);
    this.readIndex(headerBytes + 20);
  }

  refuseForeign(header, context) {
    let at = 48;
    const text = () => {
      const length = header.readUInt16BE(at);
      at += 2 + length;
      return header.toString("utf8", at - length, at);
    };
    const found = { site: text(), backupId: text(), role: text(), name: text() };
    found.tenantId = header[at++] === 0 ? null : text();
    for (const [field, value] of Object.entries(found))
      if (value !== context[field]) throw damaged(`${this.name} belongs elsewhere: its ${field} is ${value}`);
  }

  readIndex(firstFrame) {
    const trailer = this.readAt(this.bytes - 16, 16);
    if (trailer.toString("latin1", 8) !== "JBKEND\r\n")
      throw damaged(`${this.name} is cut off: it has no end mark`);
    const indexAt = Number(trailer.readBigUInt64BE(0));
    const frames = (this.bytes - 16 - indexAt - 32 - 8) / 4;
    if (!Number.isInteger(frames) || frames < 1 || frames > 2 ** 22)
      throw damaged(`${this.name} has a damaged trailer`);
    const { body } = this.openAt(indexAt, 2, frames);
    this.rawBytes = Number(body.readBigUInt64BE(0));
    this.offsets = [firstFrame];
    for (let at = 0; at < frames; at++)
      this.offsets.push(this.offsets[at] + 32 + body.readUInt32BE(8 + 4 * at));
    if (this.offsets[frames] !== indexAt)
      throw damaged(`${this.name} has an index that does not fit its frames`);
  }

  /** A head with its ciphertext and tag, opened. */
  openAt(offset, kind, counter) {
    const head = this.readAt(offset, 16);
    const [rawBytes, sealedBytes] = [head.readUInt32BE(4), head.readUInt32BE(8)];
    if (head[12] !== kind || head.readUInt32BE(0) !== counter)
      throw damaged(`${this.name} has another frame where frame ${counter} belongs`);
    if (sealedBytes > rawBytes || rawBytes > (kind === 2 ? 2 ** 25 : this.frameBytes))
      throw damaged(`${this.name} is damaged at frame ${counter}`);
    const nonce = Buffer.alloc(12);
    nonce.writeUInt8(kind, 0);
    nonce.writeUInt32BE(counter, 8);
    const body = gcmOpen(this.key, nonce, head, this.readAt(offset + 16, sealedBytes + 16));
    if (body === undefined) throw damaged(`${this.name} is damaged at frame ${counter}`);
    return { body, rawBytes, isCompressed: head[13] === 1 };
  }

  frame(counter) {
    const kind = counter === this.offsets.length - 2 ? 1 : 0;
    const { body, rawBytes, isCompressed } = this.openAt(this.offsets[counter], kind, counter);
    if (!isCompressed) return body;
    const content = expand(this.codec, body, rawBytes);
    if (content.length !== rawBytes)
      throw damaged(`${this.name}: frame ${counter} does not have its stated length`);
    return content;
  }

  *range(start, end) {
    if (end > this.rawBytes) throw damaged(`${this.name} is shorter than the list of contents says`);
    for (let at = start; at < end; ) {
      const counter = Math.floor(at / this.frameBytes);
      const inside = at - counter * this.frameBytes;
      const part = this.frame(counter).subarray(inside, inside + end - at);
      yield part;
      at += part.length;
    }
  }

  readAt(offset, length) {
    const bytes = Buffer.alloc(length);
    let filled = 0;
    while (offset >= 0 && filled < length) {
      const count = fs.readSync(this.fd, bytes, filled, length - filled, offset + filled);
      if (count === 0) break;
      filled += count;
    }
    if (filled < length || offset < 0) throw damaged(`${this.name} is cut off`);
    return bytes;
  }

  close() {
    fs.closeSync(this.fd);
  }
}

function expand(codec, body, rawBytes) {
  const limit = { maxOutputLength: rawBytes };
  if (codec === "zstd" && zlib.zstdDecompressSync === undefined)
    throw new Failure(
      1,
      `this backup is compressed with zstd, which Node ${process.version} cannot open`,
      "Run this script with Node 22.15 or newer (https://nodejs.org/dist/): nothing else is needed.",
    );
  try {
    return codec === "zstd" ? zlib.zstdDecompressSync(body, limit) : zlib.gunzipSync(body, limit);
  } catch (error) {
    throw damaged(`a frame cannot be decompressed: ${error.message}`);
  }
}

// ---- a backup ---------------------------------------------------------------------------------------

class Backup {
  constructor(folder, options) {
    const { signer } = options;
    if (signer !== undefined) keyBytes("jbk1ver", signer, "--signer");
    this.folder = folder;
    this.manifest = readManifest(folder, signer?.trim().toLowerCase());
    if (signer === undefined) {
      say(
        "WARNING: no --signer was given. The backup is checked against itself only: whoever could write to the",
      );
      say(`WARNING: storage could have made it. It names ${this.manifest.signature.signer}`);
      say("WARNING: as its signer: compare that with the recovery kit, or give the kit's with --signer.");
    }
  }

  unlock(options) {
    this.dataKey = unwrap(this.manifest, options);
    const container = this.container("contents.jbk", "contents");
    const parts = [];
    for (const part of container.range(0, container.rawBytes)) parts.push(part);
    container.close();
    this.contents = JSON.parse(Buffer.concat(parts).toString("utf8"));
    const names = new Set();
    for (const { name } of this.contents.entries) {
      if (!isSafe(name) || names.has(name))
        throw damaged(`an entry has an unsafe name: ${JSON.stringify(name)}`);
      names.add(name);
    }
  }

  container(name, role) {
    const { site, backupId, tenantId } = this.manifest.body;
    if (!isSafe(name))
      throw damaged(`an entry lies in an object with an unsafe name: ${JSON.stringify(name)}`);
    return new Container(path.join(this.folder, name), this.dataKey, {
      site,
      backupId,
      tenantId,
      role,
      name,
    });
  }

  /** The stored bytes of every object against the signed list. */
  async checkObjects() {
    const { objects } = this.manifest.body;
    for (const { name, sha256 } of objects) {
      const hash = crypto.createHash("sha256");
      try {
        for await (const chunk of fs.createReadStream(path.join(this.folder, name))) hash.update(chunk);
      } catch (error) {
        throw damaged(`${name} cannot be read: ${error.message}`);
      }
      if (hash.digest("hex") !== sha256)
        throw damaged(`${name} is damaged: its SHA-256 is not the one that was signed`);
    }
    say(`${objects.length} objects have the SHA-256 that was signed`);
  }

  *read(entry) {
    const hash = crypto.createHash("sha256");
    let bytes = 0;
    for (const { object, offset, bytes: length } of entry.segments) {
      if (this.open?.name !== object) {
        this.open?.close();
        this.open = this.container(object, "data");
      }
      for (const part of this.open.range(offset, offset + length)) {
        hash.update(part);
        bytes += part.length;
        yield part;
      }
    }
    if (bytes !== entry.bytes || hash.digest("hex") !== entry.sha256)
      throw damaged(`entry ${entry.name} is not what was backed up: its SHA-256 differs`);
  }
}

// ---- commands ---------------------------------------------------------------------------------------

function list(folder) {
  const found = [];
  const walk = (at) => {
    for (const item of fs.readdirSync(at, { withFileTypes: true }))
      if (item.isDirectory()) walk(path.join(at, item.name));
      else if (item.name === "manifest.json") found.push(at);
  };
  try {
    walk(folder);
  } catch (error) {
    throw usage(`cannot read ${folder}: ${error.message}`);
  }
  let problems = 0;
  const rows = [];
  for (const at of found) {
    try {
      rows.push([readManifest(at).body, at]);
    } catch (error) {
      problems++;
      say(`DAMAGED ${at}: ${error.message}`);
    }
  }
  rows.sort(([a], [b]) => (a.createdAt < b.createdAt ? -1 : 1));
  for (const [body, at] of rows)
    print(
      [
        body.createdAt,
        body.kind,
        body.method ?? "-",
        body.tenantId ?? "-",
        `${body.rawBytes} bytes`,
        at,
      ].join("  "),
    );
  say(`${rows.length} backups; signers are not checked here, give --signer to show or open`);
  if (problems > 0) throw damaged(`${problems} manifests are damaged or forged`);
}

function show(backup, options) {
  const { body, keys, signature } = backup.manifest;
  const facts = { ...body, objects: body.objects.length, signer: signature.signer };
  for (const [name, value] of Object.entries(facts))
    print(`${name.padEnd(16)}${typeof value === "object" ? JSON.stringify(value) : value}`);
  print(`opens with      ${keys.map((key) => key.recipient ?? "a passphrase").join(", ")}`);
  if (!hasKey(options)) return;
  backup.unlock(options);
  for (const entry of backup.contents.entries) print(`${String(entry.bytes).padStart(15)}  ${entry.name}`);
}

async function open(backup, options) {
  if (!hasKey(options)) throw usage("open needs --identity FILE or --passphrase-file FILE");
  if ((options.out === undefined) === (options.stdout === undefined))
    throw usage("open needs either --out DIR or --stdout ENTRY");
  backup.unlock(options);
  const { entries } = backup.contents;
  if (options.stdout !== undefined) {
    const entry = entries.find(({ name }) => name === options.stdout);
    if (entry === undefined) throw usage(`the backup has no entry ${options.stdout}; show lists them`);
    for (const part of backup.read(entry))
      if (!process.stdout.write(part)) await once(process.stdout, "drain");
    return;
  }
  await backup.checkObjects();
  if (backup.contents.detail.physical !== undefined) return openCluster(backup, options);
  const targets = entries.map((entry) => [entry, path.join(options.out, ...entry.name.split("/"))]);
  for (const [, target] of targets)
    if (fs.existsSync(target)) throw new Failure(1, `${target} exists`, "Give --out a new folder.");
  for (const [entry, target] of targets) {
    writeEntry(backup, entry, target);
    say(`wrote ${target} (${entry.bytes} bytes)`);
  }
}

/** Under a temporary name until its SHA-256 is checked: what has its final name is whole. */
/** A physical backup holds blocks. Its map says how they make up files, over its own packs and those of older backups that it names. */
function openCluster(backup, options) {
  const { out } = options;
  const { physical } = backup.contents.detail;
  if (fs.existsSync(out) && fs.readdirSync(out).length > 0)
    throw new Failure(1, `${out} is not empty`, "Give --out a new folder.");
  const sources = [backup, ...physical.sources.map((id) => olderBackup(backup, id, options))];
  const key = Buffer.from(physical.fingerprintKey, "base64");
  const entry = backup.contents.entries.find(({ name }) => name === "files.map");
  if (entry === undefined) throw damaged("the backup has no files.map");
  fs.mkdirSync(out, { recursive: true, mode: 0o700 });
  for (const { oid } of physical.tablespaces) linkTablespace(out, String(oid));
  const records = readMap(Buffer.concat([...backup.read(entry)]));
  // without pg_control no server starts on what is not whole yet
  const isControl = ({ head }) => head.path === "global/pg_control";
  for (const record of records.filter((one) => !isControl(one))) writeRecord(out, record, sources, key);
  fs.writeFileSync(path.join(out, "backup_label"), physical.backupLabel, { mode: 0o600, flag: "wx" });
  for (const record of records.filter(isControl)) writeRecord(out, record, sources, key);
  say(`wrote the cluster of PostgreSQL ${physical.server.version} to ${out}: ${physical.files} files`);
  say("Give it to the user that runs PostgreSQL (chown -R), look at its configuration, then pg_ctl start.");
}

function olderBackup(backup, id, options) {
  const need = backup.manifest.body.needs?.find(({ backupId }) => backupId === id);
  if (need === undefined || !isSafe(need.folder))
    throw damaged(`the backup builds on ${id}, which its manifest does not name`);
  // ROOT/backups/full/2026/11/ID
  const older = new Backup(path.join(backup.folder, "../../../../..", need.folder), options);
  if (older.manifest.body.backupId !== id) throw damaged(`${need.folder} holds another backup than ${id}`);
  older.unlock(options);
  return older;
}

function linkTablespace(out, oid) {
  if (!/^\d+$/.test(oid)) throw damaged(`a tablespace has an unsafe name: ${JSON.stringify(oid)}`);
  const place = path.join(path.resolve(out), "tablespaces", oid);
  fs.mkdirSync(place, { recursive: true, mode: 0o700 });
  fs.mkdirSync(path.join(out, "pg_tblspc"), { recursive: true, mode: 0o700 });
  fs.symlinkSync(place, path.join(out, "pg_tblspc", oid));
}

/** Lengths, a JSON head, fingerprints: one after another. */
function readMap(bytes) {
  if (bytes.toString("latin1", 0, 8) !== "JBKMAP1\n") throw damaged("files.map does not begin like one");
  const records = [];
  for (let at = 8; at < bytes.length; ) {
    if (at + 8 > bytes.length) throw damaged("files.map is cut off");
    const tagsAt = at + 8 + bytes.readUInt32BE(at);
    const end = tagsAt + bytes.readUInt32BE(at + 4);
    if (end > bytes.length) throw damaged("files.map is cut off");
    const head = JSON.parse(bytes.toString("utf8", at + 8, tagsAt));
    if (!isSafe(head.path)) throw damaged(`files.map has an unsafe path: ${JSON.stringify(head.path)}`);
    records.push({ head, tags: bytes.subarray(tagsAt, end) });
    at = end;
  }
  return records;
}

function writeRecord(out, { head, tags }, sources, key) {
  const target = path.join(out, ...head.path.split("/"));
  if (head.kind === "dir") {
    if (!/^pg_tblspc\/\d+$/.test(head.path)) fs.mkdirSync(target, { recursive: true, mode: head.mode });
    return;
  }
  fs.mkdirSync(path.dirname(target), { recursive: true, mode: 0o700 });
  const fd = fs.openSync(target, "wx", head.mode);
  try {
    let block = 0;
    let held = Buffer.alloc(0);
    for (const part of extentsOf(head, sources)) {
      for (let at = 0; at < part.length; ) at += fs.writeSync(fd, part, at);
      held = Buffer.concat([held, part]);
      for (; held.length >= head.block; held = held.subarray(head.block))
        checkBlock(held.subarray(0, head.block), block++, head, tags, key);
    }
    if (held.length > 0) checkBlock(held, block++, head, tags, key);
    if (block * 16 !== tags.length) throw damaged(`${head.path} has not the length that its map says`);
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

function* extentsOf(head, sources) {
  for (const [source, pack, offset, bytes] of head.at) {
    const backup = sources[source];
    const name = `data/${String(pack).padStart(6, "0")}.jbk`;
    if (backup === undefined) throw damaged(`${head.path} lies in a backup that is not named`);
    if (backup.open?.name !== name) {
      backup.open?.close();
      backup.open = backup.container(name, "data");
    }
    yield* backup.open.range(offset, offset + bytes);
  }
}

function checkBlock(block, number, { path: name }, tags, key) {
  const cipher = crypto.createCipheriv("aes-256-gcm", key, Buffer.alloc(12));
  cipher.setAAD(block);
  cipher.final();
  if (!cipher.getAuthTag().equals(tags.subarray(number * 16, number * 16 + 16)))
    throw damaged(`block ${number} of ${name} is not what was backed up`);
}

function writeEntry(backup, entry, target) {
  fs.mkdirSync(path.dirname(target), { recursive: true, mode: 0o700 });
  const temporary = `${target}.part`;
  const fd = fs.openSync(temporary, "wx", 0o600);
  try {
    for (const part of backup.read(entry))
      for (let at = 0; at < part.length; ) at += fs.writeSync(fd, part, at);
    fs.fsyncSync(fd);
  } catch (error) {
    fs.rmSync(temporary, { force: true });
    throw error;
  } finally {
    fs.closeSync(fd);
  }
  if (fs.existsSync(target)) throw new Failure(1, `${target} exists`, "Give --out a new folder.");
  fs.renameSync(temporary, target);
}

const hasKey = (options) => options.identity !== undefined || options["passphrase-file"] !== undefined;
const print = (text) => process.stdout.write(`${text.replaceAll(/\p{Cc}/gu, "?")}\n`);

function readArguments() {
  const text = { type: "string" };
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        identity: text,
        "passphrase-file": text,
        signer: text,
        out: text,
        stdout: text,
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    throw usage(error.message);
  }
}

async function main() {
  const { values, positionals } = readArguments();
  if (values.help) return void process.stdout.write(HELP);
  const [command, folder, ...rest] = positionals;
  if (command === undefined) throw usage("say what to do: list, show or open");
  if (!["list", "show", "open"].includes(command)) throw usage(`there is no command ${command}`);
  if (folder === undefined || rest.length > 0) throw usage(`${command} needs exactly one folder`);
  if (command === "list") return list(folder);
  const backup = new Backup(folder, values);
  return command === "show" ? show(backup, values) : open(backup, values);
}

process.stdout.on("error", (error) => {
  say(`Error: cannot write to standard output: ${error.message}`);
  process.exit(1);
});

main().catch((error) => {
  say(`Error: ${error.message}`);
  if (error.hint !== undefined) say(`Try: ${error.hint}`);
  if (!(error instanceof Failure) && error.code === undefined) say(error.stack);
  process.exitCode = error.exitCode ?? 1;
});
