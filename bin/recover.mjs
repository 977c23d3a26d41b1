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

  node recover.mjs wal /mnt/storage --identity key.txt --signer jbk1ver... --out wal

  list FOLDER            the backups and the WAL below a folder (a copy of a storage, or any part of it)
  show BACKUP_FOLDER     what one backup is; with a key also what is in it
  open BACKUP_FOLDER     write its entries to --out DIR, or one of them to standard output.
                         A physical backup becomes a data directory, its tablespaces go to DIR-tablespaces/OID
  wal STORAGE_FOLDER     write all archived WAL to --out DIR, for restore_command = 'cp DIR/%f %p'

  --identity FILE        the private key: a file with a line jbk1sec...
  --passphrase-file FILE the passphrase, if the backup was sealed for one
  --signer jbk1ver...    the site's public signing key, from the recovery kit: proves who made the backup.
                         Give it several times if the site has had several
  --out DIR              where entries go; existing files are never overwritten
  --storage FOLDER       where the older backups lie that a physical one builds on; needed only when the
                         backup's folder was moved out of its storage folder
  --system ID            the cluster whose WAL is wanted, if the storage holds that of several
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
    if (error.code !== "ENOENT") throw usage(`cannot read ${file}: ${error.message}`);
    throw new Failure(
      12,
      `there is no file ${file}`,
      "Name the file that holds the key; the recovery kit has one.",
    );
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
  if (!fs.existsSync(path.join(folder, "manifest.json")))
    throw usage(`${folder} is not a backup folder: it has no manifest.json`);
  return readSigned(path.join(folder, "manifest.json"), trusted);
}

/** A manifest that says what its signer said. Without trusted signers it may be anybody. */
function readSigned(file, trusted) {
  let manifest;
  try {
    if (fs.statSync(file).size > 64 * 2 ** 20) throw damaged(`${file} is larger than any manifest`);
    manifest = JSON.parse(fs.readFileSync(file, "utf8"));
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw damaged(`${file} cannot be read: ${error.message}`);
  }
  const { body, keys, signature } = manifest ?? {};
  if (typeof body !== "object" || body === null || !Array.isArray(keys) || !Array.isArray(body.objects))
    throw damaged(`${file} is not a manifest`);
  if (typeof signature?.signer !== "string" || typeof signature.value !== "string")
    throw damaged(`${file} is not signed`);
  if (trusted !== undefined && !trusted.includes(signature.signer))
    throw damaged(`${file} is signed by ${signature.signer}, not by the signer you gave`);
  const signed = Buffer.from(`jbackup/1 manifest\0${canonical(body)}`, "utf8");
  const key = ed25519Public(keyBytes("jbk1ver", signature.signer, file));
  if (!crypto.verify(null, signed, key, Buffer.from(signature.value, "base64")))
    throw damaged(`${file} was changed after it was signed`);
  if (body.format !== 1) throw new Failure(1, `${file} has format ${body.format}; this script reads 1`);
  const needs = body.needs ?? [];
  if (
    !Array.isArray(needs) ||
    needs.some(({ folder, objects }) => !isSafe(folder) || !Array.isArray(objects))
  )
    throw damaged(`${file} needs older backups in unsafe places`);
  for (const object of [body, ...needs].flatMap(({ objects }) => objects))
    if (!isSafe(object.name)) throw damaged(`${file} names an unsafe object`);
  return manifest;
}

/** The signers that were given, or undefined and a warning. */
function trustedSigners({ signer }, found) {
  if (signer !== undefined) {
    for (const text of signer) keyBytes("jbk1ver", text, "--signer");
    return signer.map((text) => text.trim().toLowerCase());
  }
  say(
    "WARNING: no --signer was given. The backup is checked against itself only: whoever could write to the",
  );
  say(`WARNING: storage could have made it. It names ${found.signature.signer}`);
  say("WARNING: as its signer: compare that with the recovery kit, or give the kit's with --signer.");
  return undefined;
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

/** Site, backup, role, name and tenant, as a header states them. */
function contextIn(header) {
  let at = 48;
  const text = () => {
    const length = header.readUInt16BE(at);
    at += 2 + length;
    return header.toString("utf8", at - length, at);
  };
  const context = { site: text(), backupId: text(), role: text(), name: text() };
  const hasTenant = header[at++] !== 0;
  return { ...context, tenantId: hasTenant ? text() : null };
}

/**
 * One .jbk file: its key and where its frames are. Reads only what is asked for.
 * `expect` gets the context that the header states, and answers the one that belongs there with the data key.
 */
class Container {
  constructor(file, name, expect) {
    this.name = name;
    try {
      this.fd = fs.openSync(file, "r");
    } catch (error) {
      throw damaged(`${name} is missing: ${error.message}`);
    }
    try {
      this.readHeader(expect);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  readHeader(expect) {
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
    if (this.frameBytes === 0) throw damaged(`${this.name} has frames of no length`);
    const found = contextIn(header);
    const { dataKey, context } = expect(found);
    for (const field of Object.keys(found))
      if (found[field] !== context[field])
        throw damaged(`${this.name} belongs elsewhere: its ${field} is ${found[field]}`);
    const info = Buffer.concat([Buffer.from("jbackup/1 object\0"), digest]);
    const derived = hkdf(dataKey, header.subarray(16, 48), info, 48);
    if (!derived.subarray(32).equals(tail.subarray(4)))
      throw damaged(`${this.name} belongs to another backup`);
    this.key = derived.subarray(0, 32);
    this.readIndex(headerBytes + 20);
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

  /** Opened; the last one is kept, for neighbours are often asked for one after another. */
  frame(counter) {
    if (this.kept?.counter !== counter) this.kept = { counter, content: this.openFrame(counter) };
    return this.kept.content;
  }

  openFrame(counter) {
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

const CONTENTS = "contents.jbk";

class Backup {
  constructor(folder, manifest) {
    this.folder = folder;
    this.manifest = manifest;
  }

  static at(folder, options) {
    const manifest = readManifest(folder);
    const trusted = trustedSigners(options, manifest);
    return new Backup(folder, readManifest(folder, trusted));
  }

  /** An unchanged tenant's backup has no objects: an older one holds the same content. */
  holder(options) {
    const { body, signature } = this.manifest;
    const [need] = body.needs ?? [];
    if (body.objects.length > 0 || need === undefined) return this;
    const trusted = options.signer?.map((text) => text.trim().toLowerCase()) ?? [signature.signer];
    const folder = findNeeded(this.folder, need.folder, options);
    const older = new Backup(folder, readManifest(folder, trusted));
    const found = older.manifest.body;
    if (found.backupId !== need.backupId || found.site !== body.site || found.tenantId !== body.tenantId)
      throw damaged(`${folder} holds backup ${found.backupId} where ${need.backupId} belongs`);
    say(`the content is that of ${found.label}, which did not change since`);
    return older;
  }

  unlock(options) {
    this.unwrap(options);
    const container = this.container(CONTENTS, "contents");
    const parts = [];
    for (const part of container.range(0, container.rawBytes)) parts.push(part);
    container.close();
    const opened = Buffer.concat(parts);
    // a small backup has no packs: its entries stand behind the list, which has no line break in it
    const listEnd = opened.includes(0x0a) ? opened.indexOf(0x0a) : opened.length;
    this.contents = JSON.parse(opened.subarray(0, listEnd).toString("utf8"));
    this.attached = opened.subarray(listEnd + 1);
    const names = new Set();
    for (const { name } of this.contents.entries) {
      if (!isSafe(name) || names.has(name))
        throw damaged(`an entry has an unsafe name: ${JSON.stringify(name)}`);
      names.add(name);
    }
  }

  unwrap(options) {
    this.dataKey = unwrap(this.manifest, options);
  }

  /** How the cluster was, if this is a physical backup. */
  get facts() {
    return this.contents.detail?.physical;
  }

  container(name, role) {
    const { site, backupId, tenantId } = this.manifest.body;
    if (!isSafe(name))
      throw damaged(`an entry lies in an object with an unsafe name: ${JSON.stringify(name)}`);
    const context = { site, backupId, tenantId, role, name };
    return new Container(path.join(this.folder, name), name, () => ({ dataKey: this.dataKey, context }));
  }

  /** The stored bytes of every object against the signed list: its own, or a newer backup's list of what it needs. */
  async checkObjects(objects = this.manifest.body.objects) {
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
      if (object === CONTENTS) {
        const part = this.attached.subarray(offset, offset + length);
        hash.update(part);
        bytes += part.length;
        yield part;
        continue;
      }
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

// ---- a physical backup ------------------------------------------------------------------------------

const MAP = "files.map";
const MAP_MAGIC = "JBKMAP1\n";
const FINGERPRINT_BYTES = 16;
const CONTROL = "global/pg_control";
/** Files of the old cluster's life that must not steer the new one. */
const LEFT_OUT = ["standby.signal", "recovery.signal", "backup_label", "tablespace_map"];
LEFT_OUT.push("postmaster.pid", "postmaster.opts");
const OPEN_PACKS = 64;

/** The packs of a physical backup and of the older ones it builds on: source 0 is itself. */
class Packs {
  constructor(backup, options) {
    const { body, signature } = backup.manifest;
    // without a signer to trust, at least one and the same for all
    const trusted = options.signer?.map((text) => text.trim().toLowerCase()) ?? [signature.signer];
    this.sources = [{ backup, objects: body.objects }];
    for (const id of backup.facts.sources) {
      const need = (body.needs ?? []).find(({ backupId }) => backupId === id);
      if (need === undefined) throw damaged(`the backup builds on ${id}, which its manifest does not name`);
      const folder = findNeeded(backup.folder, need.folder, options);
      const older = new Backup(folder, readManifest(folder, trusted));
      const found = older.manifest.body;
      if (found.backupId !== id || found.site !== body.site)
        throw damaged(`${folder} holds backup ${found.backupId} where ${id} belongs`);
      older.unwrap(options);
      this.sources.push({ backup: older, objects: need.objects });
    }
    this.names = this.sources.map(({ objects }) => new Set(objects.map(({ name }) => name)));
    this.open = new Map();
  }

  async check() {
    for (const { backup, objects } of this.sources) await backup.checkObjects(objects);
  }

  has(source, pack) {
    return this.names[source]?.has(packName(pack)) ?? false;
  }

  *read([source, pack, offset, bytes]) {
    const key = `${source}/${pack}`;
    const container = this.open.get(key) ?? this.sources[source].backup.container(packName(pack), "data");
    this.open.delete(key); // and back in: the one used last is the last to go
    this.open.set(key, container);
    const [oldest] = this.open.keys();
    if (this.open.size > OPEN_PACKS) {
      this.open.get(oldest).close();
      this.open.delete(oldest);
    }
    yield* container.range(offset, offset + bytes);
  }
}

const packName = (number) => `data/${String(number).padStart(6, "0")}.jbk`;

function findNeeded(own, needed, options) {
  const isThere = (folder) => fs.existsSync(path.join(folder, "manifest.json"));
  const root = options.storage ?? path.resolve(own, ...needed.split("/").map(() => ".."));
  const places = [path.join(root, needed), path.join(path.resolve(own, ".."), path.basename(needed))];
  const found = places.find(isThere);
  if (found !== undefined) return found;
  throw new Failure(
    1,
    `the backup builds on ${needed}, which is neither in ${root} nor beside it`,
    "Copy that folder there too, or give the storage's folder with --storage FOLDER.",
  );
}

/** The files and folders of a cluster, one after another, each with the fingerprints of its blocks. */
function* readMap(backup) {
  const entry = backup.contents.entries.find(({ name }) => name === MAP);
  if (entry === undefined) throw damaged(`the physical backup has no entry ${MAP}`);
  const stream = backup.read(entry);
  let held = Buffer.alloc(0);
  let isOver = false;
  const take = (bytes) => {
    const parts = [held];
    let have = held.length;
    while (have < bytes && !isOver) {
      const { done, value } = stream.next();
      isOver = done;
      if (!done) have += parts.push(value) && value.length;
    }
    const all = Buffer.concat(parts);
    held = all.subarray(bytes);
    return all.subarray(0, bytes);
  };
  const takeAll = (bytes) => {
    const taken = take(bytes);
    if (taken.length < bytes) throw damaged("the list of files is cut off");
    return taken;
  };
  if (take(8).toString("latin1") !== MAP_MAGIC) throw damaged("the list of files does not begin like one");
  for (;;) {
    const lengths = take(8);
    if (lengths.length === 0) return;
    if (lengths.length < 8) throw damaged("the list of files is cut off");
    const [head, tags] = [lengths.readUInt32BE(0), lengths.readUInt32BE(4)];
    if (head > 2 ** 26 || tags > 2 ** 26) throw damaged("a file in the list of files is too large");
    yield { ...JSON.parse(takeAll(head).toString("utf8")), tags: takeAll(tags) };
  }
}

const isCount = (value) => Number.isSafeInteger(value) && value >= 0;

/** Everything about the list is right before the first byte is written. */
function checkMap(backup, packs) {
  const spaces = new Set(backup.facts.tablespaces.map(({ oid }) => `pg_tblspc/${oid}`));
  const names = new Set();
  for (const record of readMap(backup)) {
    const { kind, path: name, mode, size, block, at, tags } = record;
    if (!isSafe(name) || names.has(name)) throw damaged(`a file has an unsafe name: ${JSON.stringify(name)}`);
    names.add(name);
    const bad = (why) => damaged(`${name} is not well described: ${why}`);
    if (!isCount(mode) || mode > 0o7777) throw bad("its mode");
    if (kind === "dir" && tags.length === 0) continue;
    if (kind !== "file" || spaces.has(name)) throw bad("its kind");
    if (!isCount(size) || !isCount(block) || block < 1 || block > 2 ** 24 || !Array.isArray(at))
      throw bad("its size");
    const isExtent = (extent) =>
      Array.isArray(extent) && extent.length === 4 && extent.every(isCount) && extent[3] > 0;
    if (!at.every(isExtent)) throw bad("an extent");
    const strange = at.find(([source, pack]) => !packs.has(source, pack));
    if (strange !== undefined) throw bad(`pack ${strange[1]} of source ${strange[0]} is in no manifest`);
    if (at.reduce((sum, [, , , bytes]) => sum + bytes, 0) !== size) throw bad("its extents do not cover it");
    if (tags.length !== Math.ceil(size / block) * FINGERPRINT_BYTES) throw bad("its fingerprints");
  }
  if (!names.has(CONTROL)) throw damaged(`the backup has no ${CONTROL}`);
  return names;
}

/** A file's blocks in order, each only after its fingerprint was right. */
function* fileBlocks(record, packs, key) {
  const { path: name, size, block, at, tags } = record;
  let held = Buffer.alloc(Math.min(block, size));
  let filled = 0;
  let done = 0;
  for (const extent of at)
    for (const part of packs.read(extent))
      for (let from = 0; from < part.length; ) {
        const count = part.copy(held, filled, from);
        from += count;
        filled += count;
        if (filled < held.length) continue;
        const nth = (done / block) * FINGERPRINT_BYTES;
        if (!fingerprint(key, held).equals(tags.subarray(nth, nth + FINGERPRINT_BYTES)))
          throw damaged(`${name} is not what was backed up: the fingerprint at byte ${done} differs`);
        yield held;
        done += filled;
        filled = 0;
        held = Buffer.alloc(Math.min(block, size - done));
      }
}

function fingerprint(key, block) {
  const cipher = crypto.createCipheriv("aes-256-gcm", key, Buffer.alloc(12));
  cipher.setAAD(block);
  cipher.final();
  return cipher.getAuthTag();
}

async function openPhysical(backup, options) {
  const { facts } = backup;
  const out = path.resolve(options.out);
  const spacesAt = `${out}-tablespaces`;
  for (const { oid } of facts.tablespaces)
    if (!/^\d+$/.test(oid)) throw damaged(`a tablespace has an unsafe name: ${JSON.stringify(oid)}`);
  const key = Buffer.from(facts.fingerprintKey, "base64");
  if (key.length !== 32) throw damaged("the key of the fingerprints does not have 32 bytes");
  const packs = new Packs(backup, options);
  await packs.check();
  const names = checkMap(backup, packs);
  if (fs.existsSync(out) && fs.readdirSync(out).length > 0)
    throw new Failure(1, `${out} is not empty`, "Give --out a new folder.");
  if (fs.existsSync(spacesAt)) throw new Failure(1, `${spacesAt} exists`, "Give --out a new folder.");

  fs.mkdirSync(path.join(out, "pg_tblspc"), { recursive: true, mode: 0o700 });
  fs.chmodSync(out, 0o700);
  for (const { oid } of facts.tablespaces) {
    fs.mkdirSync(path.join(spacesAt, oid), { recursive: true, mode: 0o700 });
    fs.symlinkSync(path.join(spacesAt, oid), path.join(out, "pg_tblspc", oid));
  }
  const modes = [];
  let control;
  let files = 0;
  for (const record of readMap(backup)) {
    const target = path.join(out, ...record.path.split("/"));
    if (record.kind === "dir") {
      fs.mkdirSync(target, { recursive: true, mode: 0o700 });
      modes.push([target, record.mode]);
    } else if (record.path === CONTROL) control = record;
    else if (!LEFT_OUT.includes(record.path)) {
      writeNew(target, fileBlocks(record, packs, key), record.mode);
      if (++files % 1000 === 0) say(`${files} files`);
    }
  }
  writeSettings(out, facts, names);
  for (const [target, mode] of modes) fs.chmodSync(target, mode);
  // before this last one no server starts on a half of it
  writeNew(path.join(out, CONTROL), fileBlocks(control, packs, key), control.mode);
  say(`wrote ${out}: ${files + 1} files of a PostgreSQL ${facts.server.major} cluster`);
  for (const { oid, name, location } of facts.tablespaces)
    say(`tablespace ${name}, which was at ${location}, is at ${path.join(spacesAt, oid)}`);
  say(`Next: give the files to the user of the server (chown -R postgres ${out}*), then start it:`);
  say(
    `  it comes up as it was at ${facts.endTime}. To go on from there, first open the WAL (recover.mjs wal),`,
  );
  say(
    "  add restore_command = 'cp WAL_DIR/%f %p' to postgresql.auto.conf, and make an empty recovery.signal.",
  );
  say("Archiving and synchronous replication are off in postgresql.auto.conf, until you remove those lines.");
}

function writeNew(target, parts, mode) {
  fs.mkdirSync(path.dirname(target), { recursive: true, mode: 0o700 });
  const fd = fs.openSync(target, "wx", 0o600);
  try {
    for (const part of parts) for (let at = 0; at < part.length; ) at += fs.writeSync(fd, part, at);
    fs.fchmodSync(fd, mode);
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

/** What must stand beside the files; the new cluster must not write into the old one's archive. */
function writeSettings(out, facts, names) {
  writeNew(path.join(out, "backup_label"), [Buffer.from(facts.backupLabel)], 0o600);
  const auto = path.join(out, "postgresql.auto.conf");
  const kept = names.has("postgresql.auto.conf") ? fs.readFileSync(auto, "utf8").split("\n") : [];
  const lines = kept.filter((line) => !/^\s*recovery_target(_time|_lsn|_name|_xid)?\b/.test(line));
  lines.push("# Written by recover.mjs. Remove these lines when this cluster takes over.");
  lines.push("archive_mode = 'off'", "synchronous_standby_names = ''");
  lines.push("primary_conninfo = ''", "primary_slot_name = ''", "");
  fs.writeFileSync(auto, lines.join("\n"), { mode: 0o600, flush: true });
  if (facts.hasOwnConfiguration) return;
  const least = Object.entries(facts.settings).map(([name, value]) => `${name} = '${value}'`);
  const files = {
    "postgresql.conf": ["listen_addresses = 'localhost'", ...least, ""].join("\n"),
    "pg_hba.conf": "local all all peer\n",
    "pg_ident.conf": "",
  };
  for (const [name, text] of Object.entries(files))
    if (!names.has(name)) writeNew(path.join(out, name), [Buffer.from(text)], 0o600);
  say("The cluster kept its configuration outside of its data directory: a small one was written.");
}

// ---- WAL --------------------------------------------------------------------------------------------

const WAL_NAME =
  /^(?:[0-9A-F]{8}\.history|([0-9A-F]{24})(?:(\.partial)|\.([0-9A-F]{8})-([0-9A-F]{8}))?)\.jbk$/;

/** The WAL objects of a cluster: { name, file, segment, from, to }; from and to are of pieces only. */
function walObjects(folder) {
  const found = [];
  for (const item of fs.readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const match = item.isFile() && WAL_NAME.exec(item.name);
    if (!match) continue;
    const [, segment, , from, to] = match;
    const range = from && { from: Number.parseInt(from, 16), to: Number.parseInt(to, 16) };
    const file = path.join(item.parentPath, item.name);
    found.push({ name: item.name.slice(0, -".jbk".length), file, segment, ...range });
  }
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** The folders wal/SYSTEM_ID at, in or above which `folder` is. */
function walFolders(folder) {
  const isSystem = (at) => /^\d+$/.test(path.basename(at)) && path.basename(path.dirname(at)) === "wal";
  const own = path.resolve(folder);
  if (isSystem(own)) return [own];
  const wal = path.basename(own) === "wal" ? own : path.join(own, "wal");
  if (!fs.existsSync(wal)) return [];
  return fs
    .readdirSync(wal)
    .map((name) => path.join(wal, name))
    .filter(isSystem);
}

/** Opens WAL objects, each with the key of its epoch. */
class WalKeys {
  constructor(folder, options) {
    this.folder = folder;
    this.options = options;
    this.epochs = new Map();
  }

  epoch(id) {
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(id)) throw damaged("it names an unsafe key");
    const known = this.epochs.get(id);
    if (known !== undefined) return known;
    const file = path.join(this.folder, "keys", `${id}.json`);
    const first = readSigned(file);
    this.trusted ??= trustedSigners(this.options, first) ?? [first.signature.signer];
    const manifest = readSigned(file, this.trusted);
    const { body } = manifest;
    const system = path.basename(this.folder);
    if (body.kind !== "wal" || body.backupId !== id || body.metadata?.systemId !== system)
      throw damaged(`${file} is no key of the WAL of cluster ${system}`);
    const epoch = { site: body.site, dataKey: unwrap(manifest, this.options) };
    this.epochs.set(id, epoch);
    return epoch;
  }

  /** The content, without the zeros at its end. */
  read({ name, file }) {
    const container = new Container(file, name, (found) => {
      const { site, dataKey } = this.epoch(found.backupId);
      const mark = /[0-9a-f]{32}$/.exec(found.name)?.[0];
      const context = {
        site,
        backupId: found.backupId,
        role: "wal",
        name: `${name} ${mark}`,
        tenantId: null,
      };
      return { dataKey, context };
    });
    try {
      return Buffer.concat([...container.range(0, container.rawBytes)]);
    } finally {
      container.close();
    }
  }
}

function wal(folder, options) {
  if (!hasKey(options)) throw usage("wal needs --identity FILE or --passphrase-file FILE");
  if (options.out === undefined) throw usage("wal needs --out DIR");
  const all = walFolders(folder);
  const systems = all.filter((at) => [undefined, path.basename(at)].includes(options.system));
  if (systems.length === 0) throw usage(`${folder} holds no WAL${all.length > 0 ? " of that system" : ""}`);
  if (systems.length > 1)
    throw usage(`say whose WAL, with --system: ${systems.map((at) => path.basename(at)).join(", ")}`);
  if (fs.existsSync(options.out) && fs.readdirSync(options.out).length > 0)
    throw new Failure(1, `${options.out} is not empty`, "Give --out a new folder.");
  const objects = walObjects(systems[0]);
  const keys = new WalKeys(systems[0], options);
  const counts = { segments: 0, joined: 0, others: 0, damaged: 0 };
  /** Undefined for one that is damaged: the others are wanted all the same. */
  const read = (object) => {
    try {
      return keys.read(object);
    } catch (error) {
      if (error.exitCode !== 4) throw error;
      counts.damaged++;
      say(`DAMAGED ${object.name}: ${error.message}`);
      return undefined;
    }
  };
  const system = path.basename(systems[0]);
  let segmentBytes = 2 ** 24;
  const write = (name, content) => {
    const header = segmentHeader(content);
    if (header !== undefined && header.systemId !== system)
      throw damaged(`${name} is WAL of cluster ${header.systemId}`);
    segmentBytes = header?.segmentBytes ?? segmentBytes;
    if (content.length > segmentBytes) throw damaged(`${name} is longer than a segment`);
    const zeros = Buffer.alloc(segmentBytes - content.length);
    writeNew(path.join(options.out, name), [content, zeros], 0o600);
  };

  const whole = new Set();
  for (const object of objects.filter(({ from }) => from === undefined)) {
    const content = read(object);
    if (content === undefined) continue;
    if (object.segment === undefined) writeNew(path.join(options.out, object.name), [content], 0o600);
    else write(object.name, content);
    if (object.name === object.segment) whole.add(object.segment);
    counts[object.name === object.segment ? "segments" : "others"]++;
  }
  const pieces = objects.filter(({ from, segment }) => from !== undefined && !whole.has(segment));
  for (const segment of new Set(pieces.map((piece) => piece.segment))) {
    const content = joined(
      pieces.filter((piece) => piece.segment === segment),
      read,
    );
    if (content.length === 0) continue;
    write(segment, content);
    counts.joined++;
  }
  say(`wrote ${options.out}: ${counts.segments} segments, ${counts.joined} put together from pieces,`);
  say(`  and ${counts.others} histories and partial segments`);
  if (counts.damaged > 0) throw damaged(`${counts.damaged} WAL objects are damaged or forged`);
}

/** The beginning of a segment, as far as its pieces reach without a gap. */
function joined(pieces, read) {
  const parts = [];
  let end = 0;
  for (const piece of pieces.sort((a, b) => a.from - b.from || b.to - a.to)) {
    if (piece.from > end) break;
    if (piece.to <= end) continue;
    const content = read(piece);
    if (content === undefined) continue; // another one may reach as far
    if (piece.to > 2 ** 30 || content.length > piece.to - piece.from)
      throw damaged(`${piece.name} is longer than its name says`);
    const padded = Buffer.alloc(piece.to - piece.from);
    content.copy(padded);
    parts.push(padded.subarray(end - piece.from));
    end = piece.to;
  }
  return Buffer.concat(parts);
}

/** The long header of the first page, in the byte order of x86 and ARM. */
function segmentHeader(content) {
  if (content.length < 40 || (content.readUInt16LE(2) & 2) === 0) return undefined;
  const segmentBytes = content.readUInt32LE(32);
  if (segmentBytes < 2 ** 20 || segmentBytes > 2 ** 30 || (segmentBytes & (segmentBytes - 1)) !== 0)
    return undefined;
  return { systemId: content.readBigUInt64LE(24).toString(), segmentBytes };
}

function listWal(folder) {
  for (const at of walFolders(folder)) {
    const objects = walObjects(at);
    const segments = objects.filter(({ segment }) => segment !== undefined);
    const pieces = segments.filter(({ from }) => from !== undefined);
    print(
      [
        "WAL",
        `cluster ${path.basename(at)}`,
        `${segments.length - pieces.length} segments`,
        `${pieces.length} pieces`,
        `${objects.length - segments.length} histories`,
        `${segments[0]?.segment ?? "-"} to ${segments.at(-1)?.segment ?? "-"}`,
        at,
      ].join("  "),
    );
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
        body.needs?.length > 0 ? `${body.method} on ${body.needs.length} older` : (body.method ?? "-"),
        body.tenantId ?? "-",
        `${body.rawBytes} bytes`,
        at,
      ].join("  "),
    );
  listWal(folder);
  say(`${rows.length} backups; signers are not checked here, give --signer to show or open`);
  if (problems > 0) throw damaged(`${problems} manifests are damaged or forged`);
}

function show(given, options) {
  const { body, keys, signature } = given.manifest;
  const facts = { ...body, objects: body.objects.length, signer: signature.signer };
  if (body.needs !== undefined) facts.needs = body.needs.map((need) => need.folder);
  for (const [name, value] of Object.entries(facts))
    print(`${name.padEnd(16)}${typeof value === "object" ? JSON.stringify(value) : value}`);
  print(`opens with      ${keys.map((key) => key.recipient ?? "a passphrase").join(", ")}`);
  if (!hasKey(options)) return;
  const backup = given.holder(options);
  backup.unlock(options);
  const { entries } = backup.contents;
  for (const { bytes, name } of entries) print(`${String(bytes).padStart(15)}  ${name}`);
  if (backup.facts === undefined) return;
  for (const space of backup.facts.tablespaces)
    print(`tablespace      ${space.oid} ${space.name}, at ${space.location}`);
  for (const file of readMap(backup))
    print(`${String(file.kind === "dir" ? "folder" : file.size).padStart(15)}  ${file.path}`);
}

async function open(given, options) {
  if (!hasKey(options)) throw usage("open needs --identity FILE or --passphrase-file FILE");
  if ((options.out === undefined) === (options.stdout === undefined))
    throw usage("open needs either --out DIR or --stdout ENTRY");
  const backup = given.holder(options);
  backup.unlock(options);
  const { entries } = backup.contents;
  if (options.stdout !== undefined) {
    const entry = entries.find(({ name }) => name === options.stdout);
    if (entry === undefined) throw usage(`the backup has no entry ${options.stdout}; show lists them`);
    for (const part of backup.read(entry))
      if (!process.stdout.write(part)) await once(process.stdout, "drain");
    return;
  }
  if (backup.facts !== undefined) return openPhysical(backup, options);
  await backup.checkObjects();
  const targets = entries.map((entry) => [entry, path.join(options.out, ...entry.name.split("/"))]);
  for (const [, target] of targets)
    if (fs.existsSync(target)) throw new Failure(1, `${target} exists`, "Give --out a new folder.");
  for (const [entry, target] of targets) {
    writeEntry(backup, entry, target);
    say(`wrote ${target} (${entry.bytes} bytes)`);
  }
}

/** Under a temporary name until its SHA-256 is checked: what has its final name is whole. */
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
        signer: { type: "string", multiple: true },
        storage: text,
        system: text,
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
  if (command === undefined) throw usage("say what to do: list, show, open or wal");
  if (!["list", "show", "open", "wal"].includes(command)) throw usage(`there is no command ${command}`);
  if (folder === undefined || rest.length > 0) throw usage(`${command} needs exactly one folder`);
  if (command === "list") return list(folder);
  if (command === "wal") return wal(folder, values);
  const backup = Backup.at(folder, values);
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
