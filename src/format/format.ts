/** The front of the format: keys, sealed objects, archives of entries, signed manifests. FORMAT.md describes every byte. */
export { type Archive, type ArchiveOptions, createArchive, type FinishedArchive } from "./archive.js";
export { type Bundle, type BundleOptions, type SmallFile, sealBundle } from "./bundle.js";
export { canonicalJson } from "./canonical.js";
export { FrameCompressor } from "./compress.js";
export { type EntryOptions, type OpenedContents, openBundle, openContents, openEntry } from "./contents.js";
export {
  encodeFileRecord,
  FINGERPRINT_BYTES,
  fingerprintsOf,
  MAP_ENTRY,
  type MapEntry,
  mapHeader,
  newFingerprintKey,
  readMap,
} from "./fileMap.js";
export { FileThreads } from "./fileThreads.js";
export type { SealContext } from "./header.js";
export {
  checkRecipient,
  checkSigner,
  generateIdentity,
  generateSigning,
  recipientOf,
  signerOf,
} from "./keys.js";
export {
  type BackupContext,
  CONTENTS_NAME,
  contentsContext,
  MANIFEST_NAME,
  packContext,
  packName,
} from "./layout.js";
export {
  digestOf,
  type Expectation,
  MANIFEST_MAX_BYTES,
  readManifest,
  rewrapManifest,
  signManifest,
} from "./manifest.js";
export { isEntryName, isObjectName } from "./names.js";
export { type ObjectSource, openRange, openRanges, openSealed, type Range, verifySealed } from "./open.js";
export { type OpenedEntry, openEntries } from "./openEntries.js";
export { type SealedObject, type SealOptions, sealedBytesAtMost, sealObject, sealStream } from "./seal.js";
export { type Signature, secretTag, signDetached, verifyDetached } from "./sign.js";
export {
  markKey,
  OPENING_BYTES,
  readWalClaim,
  requireWalShape,
  type WalClaim,
  walContext,
  walMark,
  withoutTail,
} from "./walObject.js";
export {
  commitmentOf,
  type Identity,
  newDataKey,
  type Recipient,
  unwrapDataKey,
  wrapDataKey,
} from "./wrap.js";
