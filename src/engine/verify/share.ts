import { createHash } from "node:crypto";

/** One part of so many days' work: within these days everything is read once. */
export interface Share {
  days: number;
}

const DAY_MS = 86_400_000;

/** Whether an object's turn is today. The same on every host, and the same all day. */
export function shareOf(share: Share | null, now: Date): (key: string) => boolean {
  if (share === null) return () => true;
  const today = Math.floor(now.getTime() / DAY_MS) % share.days;
  return (key) => createHash("sha256").update(key).digest().readUInt32BE(0) % share.days === today;
}
