import type { AlertSeverity } from "./backup.js";
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
  /** What may be used there, where that is less than the disk. */
  capacityBytes?: number;
}

export interface S3StorageConfig {
  kind: "s3";
  name: string;
  endpoint: string;
  bucket: string;
  prefix: string;
  /** What is paid for: the service itself would take more. */
  capacityBytes?: number;
  region: string;
  accessKeyId: LazySecret;
  secretAccessKey: LazySecret;
  /** Who may delete, when that is somebody else. */
  cleanup?: { accessKeyId: LazySecret; secretAccessKey: LazySecret };
}

export interface B2StorageConfig {
  kind: "b2";
  name: string;
  /** Where b2_authorize_account is asked; Backblaze's own by default. */
  endpoint: string | undefined;
  bucket: string;
  prefix: string;
  capacityBytes?: number;
  keyId: LazySecret;
  applicationKey: LazySecret;
  cleanup?: { keyId: LazySecret; applicationKey: LazySecret };
}

export type StorageConfig = LocalStorageConfig | S3StorageConfig | B2StorageConfig;

interface ChannelBase {
  name: string;
  /** Alerts below this are not told there. */
  atLeast: AlertSeverity;
}

export interface EmailChannelConfig extends ChannelBase {
  kind: "email";
  smtpUrl: LazySecret;
  from: string | null;
  to: string[];
}

export interface WebhookChannelConfig extends ChannelBase {
  kind: "webhook";
  url: LazySecret;
  secret: LazySecret | null;
  format: "json" | "slack" | "pagerduty";
}

export interface SmsChannelConfig extends ChannelBase {
  kind: "sms";
  endpoint: string;
  accountId: LazySecret;
  token: LazySecret;
  from: string;
  to: string[];
}

export type ChannelConfig = EmailChannelConfig | WebhookChannelConfig | SmsChannelConfig;
