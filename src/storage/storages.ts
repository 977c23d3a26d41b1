export { bytesBody, fileBody, readAll } from "./body.js";
export { type CheckedStorage, checkStorage } from "./check.js";
export { type ContractCheck, storageContract } from "./contract.js";
export { checkKey } from "./key.js";
export { claimSite, readSite, requireSite, SITE_MARKER, type SiteClaim, type SiteMarker } from "./marker.js";
export { type OpenOptions, openStorage } from "./open.js";
export type { RetryPolicy } from "./retry.js";
export { probeRights, removeProbes } from "./rights.js";
export type {
  ByteRange,
  GetOptions,
  ObjectBody,
  ObjectFacts,
  PutOptions,
  Storage,
  StorageSpace,
} from "./storage.js";
