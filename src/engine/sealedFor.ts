import type { Manifest } from "../domain/manifest.js";
import type { SealingKeys } from "./siteKeys.js";

export const recipientsOf = ({ recipients }: Pick<SealingKeys, "recipients">): string[] =>
  recipients.map((one) => (one.kind === "x25519" ? one.publicKey : "passphrase")).sort();

/** Whether exactly those open it who are to open what is stored now. What others open must not be built on. */
export function isSealedFor({ keys }: Pick<Manifest, "keys">, sealing: SealingKeys): boolean {
  const there = keys.map((key) => (key.kind === "x25519" ? key.recipient : "passphrase")).sort();
  return recipientsOf(sealing).join() === there.join();
}
