import type { Assertion } from "../domain/assertion.js";
import type { ChannelConfig, Compression, LazySecret, StorageConfig } from "../domain/config.js";
import type { RetentionPolicy, Settings } from "./settings.js";

export { type DescribedValue, describeConfig } from "./describe.js";
export { drillUrl, urlOn } from "./drill.js";
export { type Environment, readEnvironment } from "./environment.js";
export { type LoadRequest, loadConfig } from "./load.js";
export type { LoadedRunbook, RunbookFile } from "./runbooks.js";
export type { Settings } from "./settings.js";

export type RecipientConfig =
  | { kind: "x25519"; publicKey: string }
  | { kind: "passphrase"; passphrase: LazySecret };
export type IdentityConfig =
  | { kind: "x25519"; identity: LazySecret }
  | { kind: "passphrase"; passphrase: LazySecret };

/** Keys named in the file, or a pair that jbackup makes for itself at the first backup. */
export interface KeysConfig {
  recipients: RecipientConfig[];
  signing: LazySecret | null;
  signers: string[];
  identities: IdentityConfig[];
  /** Where the generated keys live; null when the configuration names its own. */
  generatedIn: string | null;
}

/** Everything in a configuration that has to be fetched from somewhere. */
export function secretsOf(config: Config): LazySecret[] {
  const { keys } = config;
  return [
    config.database.url,
    config.catalogUrl,
    ...(keys.signing === null ? [] : [keys.signing]),
    ...keys.identities.map((identity) =>
      identity.kind === "x25519" ? identity.identity : identity.passphrase,
    ),
    ...keys.recipients.flatMap((recipient) =>
      recipient.kind === "passphrase" ? [recipient.passphrase] : [],
    ),
    ...config.alerts.channels.flatMap((channel) => {
      if (channel.kind === "email") return [channel.smtpUrl];
      if (channel.kind === "sms") return [channel.accountId, channel.token];
      return channel.secret === null ? [channel.url] : [channel.url, channel.secret];
    }),
    ...Object.values(config.alerts.heartbeats),
    ...config.storages.flatMap((storage) => {
      if (storage.kind === "local") return [];
      const { cleanup } = storage;
      return [
        ...(storage.kind === "s3"
          ? [storage.accessKeyId, storage.secretAccessKey]
          : [storage.keyId, storage.applicationKey]),
        ...(cleanup === undefined ? [] : Object.values(cleanup)),
      ];
    }),
  ];
}

/** Checked and complete: every key has its value or its default. */
export interface Config {
  file: string;
  /** Of everything in the file but its secrets: tells that something was changed. */
  digest: string;
  /** The folder for catalog, generated keys, journals and locks. */
  home: string;
  site: string;
  database: { url: LazySecret; dataDirectory: string; binDirectory: string };
  keys: KeysConfig;
  storages: StorageConfig[];
  minCopies: number;
  /** How long physical backups build on each other before one is stored whole again. */
  rebaseEveryMs: number;
  catalogUrl: LazySecret;
  compression: Compression;
  tenants: Settings["tenants"];
  configFiles: string[];
  /** Folders with runbooks of the site's own. */
  runbooks: string[];
  retention: { pitrWindowMs: number; perStorage: Record<string, RetentionPolicy> };
  objectives: { rtoMs: number; rpoMs: number; drillEveryMs: number };
  schedule: Settings["schedule"];
  testRestore: {
    assertions: Assertion[];
    /** How many tenants are taken out and compared. */
    tenants: number;
    /** How long one assertion may take. */
    timeoutMs: number;
  };
  alerts: {
    channels: ChannelConfig[];
    reminderEveryMs: number;
    /** Where the start and the end of a job are told, by its name in the schedule. */
    heartbeats: Partial<Record<keyof Settings["schedule"], LazySecret>>;
  };
  /** The files that its secrets are taken from. */
  secretFiles: string[];
  /** Whether the configuration file itself holds some. */
  holdsSecrets: boolean;
  /** Commands of the user's around every backup but those of the WAL. */
  hooks: Omit<Settings["hooks"], "timeout"> & { timeoutMs: number };
  /** The variables that secrets come from: they are not handed to programs of the user's. */
  secretVariables: ReadonlySet<string>;
  /** Things that work but should be looked at. */
  warnings: string[];
}
