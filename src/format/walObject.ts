import { createCipheriv, hkdfSync } from "node:crypto";
import type { Secret } from "../domain/secret.js";
import { objectFault } from "./faults.js";
import { readTrailer, TRAILER_BYTES } from "./frameIndex.js";
import { HEADER_MAX_BYTES, HEADER_TAIL_BYTES, type Header, readHeader, type SealContext } from "./header.js";

/** WAL objects are sealed with the key of an epoch, which stands where a backup's id does. */
const ROLE = "wal";

export const walContext = (site: string, epochId: string, name: string, mark: string): SealContext => ({
  site,
  backupId: epochId,
  role: ROLE,
  tenantId: null,
  name: `${name} ${mark}`,
});

/** Enough of an object to read its header. */
export const OPENING_BYTES = HEADER_MAX_BYTES + HEADER_TAIL_BYTES;

export interface WalClaim {
  epochId: string;
  mark: string;
}

/** What a WAL object says of itself, before any key is at hand. Refused when it was sealed for another place. */
export function readWalClaim(opening: Buffer, site: string, name: string): WalClaim {
  const { context } = readPlaced(opening, site, name);
  return { epochId: context.backupId, mark: context.name.slice(name.length + 1) };
}

function readPlaced(opening: Buffer, site: string, name: string): Header {
  const expected = walContext(site, "", name, "");
  const header = readHeader(opening, expected);
  const { context } = header;
  const isOfName = context.role === ROLE && context.tenantId === null && context.name.startsWith(`${name} `);
  if (context.site !== site || !isOfName)
    throw objectFault(
      "container_foreign",
      expected,
      `belongs elsewhere: it was sealed for ${context.site === site ? `object ${context.name}` : `site ${context.site}`}`,
    );
  return header;
}

/** Whether the bytes can be that file of the WAL, as far as it shows without a key: by their header and their end. */
export function requireWalShape(stored: Buffer, site: string, name: string): void {
  const header = readPlaced(stored.subarray(0, OPENING_BYTES), site, name);
  const index = readTrailer(stored);
  const expected = walContext(site, "", name, "");
  if (index === undefined)
    throw objectFault("object_truncated", expected, "is cut off, or has a damaged end");
  if (index < header.bytes.length + HEADER_TAIL_BYTES || index > stored.length - TRAILER_BYTES)
    throw objectFault("object_corrupt", expected, "has a damaged end");
}

const MARK_NONCE = Buffer.alloc(12);

/** From the site's signing key: whoever archives has it, whoever reads the storage has not. */
export const markKey = (signing: Secret): Buffer =>
  Buffer.from(hkdfSync("sha256", signing.reveal(), "", "jbackup/1 wal mark", 32));

/**
 * A keyed digest of name and content, which stands in the object's header: it tells two contents under one name apart on a
 * host that holds no private key. It is the tag of AES-256-GCM over them as associated data.
 */
export function walMark(key: Buffer, name: string, content: Uint8Array): string {
  const cipher = createCipheriv("aes-256-gcm", key, MARK_NONCE);
  cipher.setAAD(Buffer.from(`${name}\0`));
  cipher.setAAD(content);
  cipher.final();
  return cipher.getAuthTag().toString("hex");
}

const ZEROS = Buffer.alloc(65_536);

/** Without the zeros at its end: a segment that was left early is mostly zeros. */
export function withoutTail(content: Buffer): Buffer {
  let end = content.length;
  while (end >= ZEROS.length && content.compare(ZEROS, 0, ZEROS.length, end - ZEROS.length, end) === 0)
    end -= ZEROS.length;
  while (end > 0 && content[end - 1] === 0) end--;
  return content.subarray(0, end);
}
