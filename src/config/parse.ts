import { createHash } from "node:crypto";
import { dirname, isAbsolute, join, resolve } from "node:path";
import type { Assertion } from "../domain/assertion.js";
import { parseBytes } from "../domain/bytes.js";
import type { ChannelConfig, StorageConfig } from "../domain/config.js";
import { parseDuration } from "../domain/time.js";
import { withoutSecrets } from "./blanked.js";
import type { Config, IdentityConfig, KeysConfig } from "./config.js";
import { crossCheck } from "./crossCheck.js";
import { configForDrill } from "./drill.js";
import type { Environment } from "./environment.js";
import { lazyIdentity, lazySecret, type SecretContext, type SecretSource } from "./secrets.js";
import { type RetentionPolicy, type Settings, settingsSchema } from "./settings.js";
import { parseYaml, type YamlFile } from "./yamlFile.js";

export interface ParsedFile extends Omit<YamlFile<Settings>, "value"> {
  settings: Settings;
}

/** Text to settings; every problem at once, each with its path and line. */
export function parseSettings(text: string, file: string): ParsedFile {
  const hint = `correct ${file}, then run jbackup config validate`;
  const { value, lineOf, has } = parseYaml(text, { file, hint, schema: settingsSchema, crossCheck });
  return { settings: value, lineOf, has };
}

const isPassphrase = (value: object): value is { passphrase: SecretSource } => "passphrase" in value;

function keysOf(settings: Settings, home: string, context: SecretContext): KeysConfig {
  const keys = settings.keys;
  const areNamed = keys?.recipients !== undefined || keys?.identity !== undefined;
  if (keys === undefined || !areNamed)
    return {
      recipients: [],
      signing: null,
      signers: keys?.signers ?? [],
      identities: [],
      generatedIn: join(home, "keys"),
    };
  const sources = keys.identity === undefined ? [] : [keys.identity].flat();
  return {
    recipients: (keys.recipients ?? []).map((recipient, index) =>
      typeof recipient === "string"
        ? { kind: "x25519", publicKey: recipient }
        : {
            kind: "passphrase",
            passphrase: lazySecret(recipient.passphrase, `keys.recipients[${index}].passphrase`, context),
          },
    ),
    signing: keys.signing ? lazySecret(keys.signing, "keys.signing", context) : null,
    signers: keys.signers,
    identities: sources.map(
      (source): IdentityConfig =>
        isPassphrase(source)
          ? {
              kind: "passphrase",
              passphrase: lazyIdentity(source.passphrase, "keys.identity.passphrase", context),
            }
          : { kind: "x25519", identity: lazyIdentity(source, "keys.identity", context) },
    ),
    generatedIn: null,
  };
}

function storagesOf(settings: Settings, home: string, context: SecretContext): StorageConfig[] {
  if (!settings.storages) return [{ kind: "local", name: "local", path: join(home, "storage") }];
  return settings.storages.map(({ capacity, ...storage }): StorageConfig => {
    const room = capacity === undefined ? {} : { capacityBytes: parseBytes(capacity) ?? 0 };
    const secret = (source: SecretSource, key: string) =>
      lazySecret(source, `storages ${storage.name}: ${key}`, context);
    if (storage.kind === "local") {
      return {
        ...storage,
        ...room,
        path: isAbsolute(storage.path) ? storage.path : join(context.directory, storage.path),
      };
    }
    if (storage.kind === "s3") {
      const { cleanup, ...rest } = storage;
      const keys = (from: { accessKeyId: SecretSource; secretAccessKey: SecretSource }, at: string) => ({
        accessKeyId: secret(from.accessKeyId, `${at}accessKeyId`),
        secretAccessKey: secret(from.secretAccessKey, `${at}secretAccessKey`),
      });
      return {
        ...rest,
        ...room,
        ...keys(storage, ""),
        ...(cleanup ? { cleanup: keys(cleanup, "cleanup.") } : {}),
      };
    }
    const { cleanup, ...rest } = storage;
    const keys = (from: { keyId: SecretSource; applicationKey: SecretSource }, at: string) => ({
      keyId: secret(from.keyId, `${at}keyId`),
      applicationKey: secret(from.applicationKey, `${at}applicationKey`),
    });
    return {
      ...rest,
      ...room,
      endpoint: storage.endpoint,
      ...keys(storage, ""),
      ...(cleanup ? { cleanup: keys(cleanup, "cleanup.") } : {}),
    };
  });
}

function alertsOf(settings: Settings, context: SecretContext): Config["alerts"] {
  const { channels, reminderEvery, heartbeats = {} } = settings.alerts;
  return {
    channels: channels.map((channel): ChannelConfig => {
      const { name, atLeast } = channel;
      const secret = (source: SecretSource, key: string) =>
        lazySecret(source, `alerts.channels ${name}: ${key}`, context);
      if (channel.kind === "email") {
        const { smtp, to } = channel;
        return {
          kind: "email",
          name,
          atLeast,
          to,
          from: smtp.from ?? null,
          smtpUrl: secret(smtp.url, "smtp.url"),
        };
      }
      if (channel.kind === "webhook") {
        const { url, secret: key, format } = channel;
        const signing = key === undefined ? null : secret(key, "secret");
        return { kind: "webhook", name, atLeast, format, url: secret(url, "url"), secret: signing };
      }
      const { endpoint, from, to } = channel;
      const keys = {
        accountId: secret(channel.accountId, "accountId"),
        token: secret(channel.token, "token"),
      };
      return { kind: "sms", name, atLeast, endpoint, from, to, ...keys };
    }),
    reminderEveryMs: milliseconds(reminderEvery),
    heartbeats: Object.fromEntries(
      Object.entries(heartbeats).flatMap(([job, beat]) =>
        beat === undefined ? [] : [[job, lazySecret(beat.url, `alerts.heartbeats.${job}.url`, context)]],
      ),
    ),
  };
}

const milliseconds = (text: string): number => parseDuration(text) ?? 0;

function hooksOf({ hooks }: Settings): Config["hooks"] {
  const { timeout, ...commands } = hooks;
  return { ...commands, timeoutMs: milliseconds(timeout) };
}

/** The database's name makes a usable site name when none is given. */
async function siteOf(settings: Settings, url: Config["database"]["url"]): Promise<string> {
  if (settings.site !== undefined) return settings.site;
  const text = (await url()).reveal();
  const path = /^[a-z]+:\/\/[^/?]*\/([^?]*)/.exec(text)?.[1] ?? "";
  const cleaned = decodeURIComponent(path)
    .replace(/[^A-Za-z0-9._-]/g, "-")
    .replace(/^[^A-Za-z0-9]+/, "")
    .slice(0, 60);
  return cleaned === "" ? "default" : cleaned;
}

export async function parseConfig(
  text: string,
  file: string,
  given: { environment: Environment; onSecret: (text: string) => void },
): Promise<Config> {
  const { settings } = parseSettings(text, file);
  const home = given.environment.jbackupHome;
  const context: SecretContext = {
    environment: given.environment,
    directory: dirname(file),
    secretVariables: new Set(),
    secretFiles: new Set(),
    holdsSecrets: false,
    onSecret: given.onSecret,
  };
  const storages = storagesOf(settings, home, context);
  const url = lazySecret(settings.database.url, "database.url", context, true);
  const keys = keysOf(settings, home, context);
  const { pitrWindow, ...perStorage } = settings.retention;
  const config: Config = {
    file,
    digest: createHash("sha256")
      .update(JSON.stringify(withoutSecrets(settings)))
      .digest("hex"),
    home,
    site: await siteOf(settings, url),
    database: { ...settings.database, url },
    keys,
    storages,
    minCopies: settings.minCopies ?? Math.min(2, storages.length),
    rebaseEveryMs: milliseconds(settings.rebaseEvery),
    catalogUrl: lazySecret(
      settings.catalog?.url ?? { value: `sqlite:${join(home, "catalog.db")}` },
      "catalog.url",
      context,
      true,
    ),
    compression: settings.compression,
    tenants: settings.tenants,
    configFiles: settings.configFiles.map((path) => resolve(dirname(file), path)),
    runbooks: settings.runbooks.map((folder) => resolve(dirname(file), folder)),
    retention: {
      pitrWindowMs: milliseconds(pitrWindow),
      perStorage: perStorage as Record<string, RetentionPolicy>,
    },
    objectives: {
      rtoMs: milliseconds(settings.objectives.rto),
      rpoMs: milliseconds(settings.objectives.rpo),
      drillEveryMs: milliseconds(settings.objectives.drillEvery),
    },
    schedule: settings.schedule,
    testRestore: {
      assertions: settings.testRestore.assertions.map(
        ({ name, database, sql, expect }): Assertion => ({
          name,
          database: database ?? null,
          sql,
          ...(expect === undefined ? {} : { expect }),
        }),
      ),
      tenants: settings.testRestore.tenants,
      timeoutMs: milliseconds(settings.testRestore.timeout),
    },
    alerts: alertsOf(settings, context),
    hooks: hooksOf(settings),
    secretVariables: context.secretVariables,
    warnings: [],
    secretFiles: [],
    holdsSecrets: false,
  };
  // all are known only now
  config.secretFiles = [...context.secretFiles];
  config.holdsSecrets = context.holdsSecrets;
  const { drill } = given.environment;
  return drill === undefined ? config : configForDrill(config, drill);
}
