/** What is written down of a recovery kit when it is made. No secret is in it. */
export interface KitRecord {
  /** Public halves of the private keys in it. */
  holds: string[];
  /** For whom backups were sealed then. */
  recipients: string[];
  signers: string[];
  storages: string[];
}

/** Where a storage is, without what opens it. */
export type StoragePlace = { name: string } & (
  | { kind: "local"; path: string }
  | { kind: "s3"; endpoint: string; bucket: string; prefix: string; region: string }
  | { kind: "b2"; endpoint: string | undefined; bucket: string; prefix: string }
);

export const placeText = (storage: StoragePlace): string =>
  storage.kind === "local"
    ? `${storage.name} (local): ${storage.path}`
    : `${storage.name} (${storage.kind}): ${[storage.endpoint, storage.bucket, storage.prefix].filter(Boolean).join("/")}`;

const isTexts = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((one) => typeof one === "string");

export function readKitRecord(detail: Record<string, unknown>): KitRecord | null {
  const { holds, recipients, signers, storages } = detail;
  return isTexts(holds) && isTexts(recipients) && isTexts(signers) && isTexts(storages)
    ? { holds, recipients, signers, storages }
    : null;
}

const isSame = (before: string[], now: string[]): boolean =>
  before.length === now.length && now.every((one) => before.includes(one));

export interface KitNow extends Omit<KitRecord, "holds"> {
  newest: { label: string; sealedFor: string[] } | null;
}

/** Why the kit in the safe is not the one that is needed now; empty where it is. */
export function kitDrift(kit: KitRecord | null, { recipients, signers, storages, newest }: KitNow): string[] {
  if (kit === null) return ["what is in it was not written down"];
  const opens = newest === null || newest.sealedFor.some((one) => kit.holds.includes(one));
  return [
    ...(opens ? [] : [`it does not open ${newest.label}`]),
    ...(isSame(kit.recipients, recipients) ? [] : ["backups are sealed for other keys now"]),
    ...(isSame(kit.signers, signers) ? [] : ["other signatures are believed now"]),
    ...(isSame(kit.storages, storages) ? [] : ["backups are in other storages now"]),
  ];
}
