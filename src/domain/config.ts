import type { Secret } from "./secret.js";

/** Where a secret comes from is decided by the configuration; it is fetched when first needed, once. */
export type LazySecret = () => Promise<Secret>;

export type Codec = "zstd" | "gzip" | "none";

export interface Compression {
  codec: Codec;
  level: number;
}

export interface LocalStorageConfig {
  kind: "local";
  name: string;
  path: string;
}

export interface S3StorageConfig {
  kind: "s3";
  name: string;
  endpoint: string;
  bucket: string;
  prefix: string;
  region: string;
  accessKeyId: LazySecret;
  secretAccessKey: LazySecret;
}

export interface B2StorageConfig {
  kind: "b2";
  name: string;
  /** Where b2_authorize_account is asked; Backblaze's own by default. */
  endpoint: string | undefined;
  bucket: string;
  prefix: string;
  keyId: LazySecret;
  applicationKey: LazySecret;
}

export type StorageConfig = LocalStorageConfig | S3StorageConfig | B2StorageConfig;
