import { randomBytes } from "node:crypto";
import type { Clock } from "./clock.js";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** UUID version 7: sorts by the time it was made. */
export function uuid7(clock: Clock): string {
  const bytes = Buffer.alloc(16);
  bytes.writeUIntBE(clock.now().getTime(), 0, 6);
  randomBytes(10).copy(bytes, 6);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x70;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  return hex(bytes).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
