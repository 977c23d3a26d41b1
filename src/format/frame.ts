import { createCipheriv, createDecipheriv } from "node:crypto";

/**
 * A sealed frame is head, ciphertext, tag. The head is authenticated and part of the nonce, so a frame that
 * opens is the frame its head says it is, wherever it was found.
 */
export type FrameKind = "middle" | "last" | "index";

export interface FrameHead {
  kind: FrameKind;
  counter: number;
  rawBytes: number;
  /** Length of the ciphertext, without head and tag. */
  sealedBytes: number;
  isCompressed: boolean;
}

export const HEAD_BYTES = 16;
export const TAG_BYTES = 16;
export const FRAME_OVERHEAD_BYTES = HEAD_BYTES + TAG_BYTES;
const KINDS: readonly FrameKind[] = ["middle", "last", "index"];

export function writeHead(head: FrameHead): Buffer {
  const bytes = Buffer.alloc(HEAD_BYTES);
  bytes.writeUInt32BE(head.counter, 0);
  bytes.writeUInt32BE(head.rawBytes, 4);
  bytes.writeUInt32BE(head.sealedBytes, 8);
  bytes.writeUInt8(KINDS.indexOf(head.kind), 12);
  bytes.writeUInt8(head.isCompressed ? 1 : 0, 13);
  return bytes;
}

/** Undefined when no writer makes such a head. */
export function readHead(bytes: Buffer): FrameHead | undefined {
  const kind = KINDS[bytes.readUInt8(12)];
  const compressed = bytes.readUInt8(13);
  if (kind === undefined || compressed > 1 || bytes.readUInt16BE(14) !== 0) return undefined;
  return {
    kind,
    counter: bytes.readUInt32BE(0),
    rawBytes: bytes.readUInt32BE(4),
    sealedBytes: bytes.readUInt32BE(8),
    isCompressed: compressed === 1,
  };
}

/** Kind and counter: no two frames of an object share a nonce, and the kinds have nonces of their own. */
function nonceOf({ kind, counter }: FrameHead): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt8(KINDS.indexOf(kind), 0);
  nonce.writeUInt32BE(counter, 8);
  return nonce;
}

export function sealFrame(key: Buffer, head: FrameHead, body: Buffer): Buffer[] {
  const headBytes = writeHead(head);
  const cipher = createCipheriv("aes-256-gcm", key, nonceOf(head));
  cipher.setAAD(headBytes);
  const sealed = cipher.update(body);
  cipher.final(); // GCM holds nothing back: this only closes the tag
  return [headBytes, sealed, cipher.getAuthTag()];
}

/** The body, or undefined when it is not what was sealed under this key and head. */
export function openFrame(key: Buffer, head: FrameHead, sealedAndTag: Buffer): Buffer | undefined {
  const decipher = createDecipheriv("aes-256-gcm", key, nonceOf(head), { authTagLength: TAG_BYTES });
  decipher.setAAD(writeHead(head));
  decipher.setAuthTag(sealedAndTag.subarray(head.sealedBytes));
  const body = decipher.update(sealedAndTag.subarray(0, head.sealedBytes));
  try {
    decipher.final();
  } catch {
    return undefined; // throws for nothing but a tag that does not match
  }
  return body;
}
