import type { Secret } from "./secret.js";

/** What somebody who sets up a site decided: everything that its configuration file will say. */
export interface SiteDraft {
  site: string;
  url: Secret;
  storages: StorageDraft[];
  tenants: TenantDraft | null;
  keep: Keep;
  /** The quiet hour of the night, UTC. */
  hour: number;
  /** Null: nobody is told yet. */
  channel: ChannelDraft | null;
  configFiles: string[];
}

/** The address is a secret: it holds a password, or whoever knows it may write there. */
export type ChannelDraft =
  | { kind: "email"; to: string[]; url: Secret }
  | { kind: "webhook"; format: "json" | "slack"; url: Secret };

export const channelName = (channel: ChannelDraft): string =>
  channel.kind === "email" ? "mail" : channel.format === "json" ? "hook" : "slack";

export interface Credentials {
  id: Secret;
  secret: Secret;
}

export type StorageDraft =
  | { kind: "local"; name: string; path: string }
  | {
      kind: "s3";
      name: string;
      endpoint: string;
      bucket: string;
      prefix: string;
      region: string;
      credentials: Credentials;
    }
  | {
      kind: "b2";
      name: string;
      endpoint: string | undefined;
      bucket: string;
      prefix: string;
      credentials: Credentials;
    };

export interface TenantDraft {
  table: string;
  idColumn: string;
  column: string;
  nameColumn: string | null;
  activeWhere: string | null;
  setting: string | null;
  shared: string[];
  exclude: string[];
  transient: string[];
}

/** How long backups are kept. */
export const KEEPS = {
  weeks: "two weeks, any moment of them",
  months: "30 days, any moment of them; then a week's for 12 weeks, a month's for 12 months",
  years: "the same, and a year's for 7 years",
} as const;

export type Keep = keyof typeof KEEPS;

/** Where the secrets and the public keys of a draft are to be found. */
export interface DraftPlaces {
  /** The folder of the keys: `identity`, `signing` and the files of `secretFilesOf`. */
  keys: string;
  /** The daily one and the one for emergencies. */
  recipients: [daily: string, recovery: string];
  signer: string;
  catalog: string;
}

/** An address with a password in it is a secret; without one it may be read by anybody. */
export const holdsPassword = (url: string): boolean =>
  /^[a-z0-9+.-]+:\/\/[^/@:]*:[^/]*@/i.test(url) || /[?&](password|passwd)=/i.test(url);

const CHANNEL_FILE = "alerts-url";

/** Secrets never stand in the configuration: each has a file of its own. */
export function secretFilesOf({ url, storages, channel }: SiteDraft): { file: string; secret: Secret }[] {
  return [
    ...(holdsPassword(url.reveal()) ? [{ file: "database-url", secret: url }] : []),
    ...storages.flatMap((storage) =>
      storage.kind === "local"
        ? []
        : [
            { file: `${storage.name}.id`, secret: storage.credentials.id },
            { file: `${storage.name}.secret`, secret: storage.credentials.secret },
          ],
    ),
    ...(channel === null ? [] : [{ file: CHANNEL_FILE, secret: channel.url }]),
  ];
}

/** A text that YAML takes for itself and nothing else. */
export const quoted = (text: string): string =>
  /^[A-Za-z/][\w./-]*$/.test(text) && !/^(true|false|null|yes|no|on|off|y|n)$/i.test(text)
    ? text
    : JSON.stringify(text);

const list = (items: string[]): string => `[${items.map(quoted).join(", ")}]`;

function storageLine(storage: StorageDraft, keys: string): string {
  if (storage.kind === "local")
    return `  - {name: ${quoted(storage.name)}, kind: local, path: ${quoted(storage.path)}}`;
  const file = (end: string): string => `{file: ${quoted(`${keys}/${storage.name}.${end}`)}}`;
  const parts = [
    `name: ${quoted(storage.name)}`,
    `kind: ${storage.kind}`,
    ...(storage.endpoint === undefined ? [] : [`endpoint: ${quoted(storage.endpoint)}`]),
    `bucket: ${quoted(storage.bucket)}`,
    ...(storage.prefix === "" ? [] : [`prefix: ${quoted(storage.prefix)}`]),
    ...(storage.kind === "s3"
      ? [
          ...(storage.region === "auto" ? [] : [`region: ${quoted(storage.region)}`]),
          `accessKeyId: ${file("id")}`,
          `secretAccessKey: ${file("secret")}`,
        ]
      : [`keyId: ${file("id")}`, `applicationKey: ${file("secret")}`]),
  ];
  return `  - {${parts.join(", ")}}`;
}

function tenantLines(tenants: TenantDraft | null): string[] {
  if (tenants === null)
    return [
      "# Do several customers share the tables? Then one of them can be brought back alone:",
      "# tenants: {table: app.tenants}",
      "",
    ];
  return [
    "# Whose rows are whose: jbackup tenants coverage shows every table",
    "tenants:",
    `  table: ${quoted(tenants.table)}`,
    ...(tenants.idColumn === "id" ? [] : [`  idColumn: ${quoted(tenants.idColumn)}`]),
    ...(tenants.column === "tenant_id" ? [] : [`  column: ${quoted(tenants.column)}`]),
    ...(tenants.nameColumn === null ? [] : [`  nameColumn: ${quoted(tenants.nameColumn)}`]),
    ...(tenants.activeWhere === null ? [] : [`  activeWhere: ${JSON.stringify(tenants.activeWhere)}`]),
    ...(tenants.setting === null
      ? []
      : [`  setting: ${quoted(tenants.setting)}   # what the policies of row-level security read`]),
    ...(["shared", "exclude", "transient"] as const).flatMap((key) =>
      tenants[key].length === 0 ? [] : [`  ${key}: ${list(tenants[key])}`],
    ),
    "",
  ];
}

const LONG: Record<Exclude<Keep, "weeks">, string> = {
  months: "{within: 30d, weekly: 12, monthly: 12}",
  years: "{within: 30d, weekly: 12, monthly: 12, yearly: 7}",
};

/** The host's own disk keeps what is needed soon, the others keep it long; a storage that is alone keeps all. */
function retentionLines({ keep, storages }: SiteDraft): string[] {
  const isLong = (storage: StorageDraft, at: number): boolean =>
    storages.length === 1 || storage.kind !== "local" || at > 0;
  const policyOf = (storage: StorageDraft, at: number): string =>
    keep === "weeks" ? "{within: 14d}" : isLong(storage, at) ? LONG[keep] : "{within: 30d}";
  return [
    "# What each storage keeps; jbackup cleanup --dry-run shows what that means",
    "retention:",
    ...storages.map((storage, at) => `  ${quoted(storage.name)}: ${policyOf(storage, at)}`),
    `  pitrWindow: ${keep === "weeks" ? "14d" : "30d"}   # back to any moment of this time`,
    "",
  ];
}

function scheduleLines({ hour, tenants, configFiles }: SiteDraft): string[] {
  const at = (later: number): number => (hour + later) % 24;
  const jobs: [job: string, cron: string][] = [
    ["full", `0 ${at(0)} * * *`],
    ...(tenants === null ? [] : [["tenant", `0 ${at(1)} * * 0`] as [string, string]]),
    ["wal", "*/5 * * * *"],
    ...(configFiles.length === 0 ? [] : [["config", `0 ${at(2)} * * *`] as [string, string]]),
    ["verify", `0 ${at(3)} * * *`],
    ["cleanup", `0 ${at(4)} * * *`],
    ["testRestore", `0 ${at(5)} 1 * *`],
    ["drill", `0 ${at(6)} 1 * *`],
  ];
  return [
    "# When (UTC); jbackup schedule install makes it happen",
    "schedule:",
    ...jobs.map(([job, cron]) => `  ${job}: ${JSON.stringify(cron)}`),
    "",
  ];
}

function channelLines(channel: ChannelDraft | null, keys: string): string[] {
  const head = "# Who is told when something goes wrong; jbackup alerts test tries it";
  if (channel === null)
    return [
      head,
      "# alerts:",
      "#   channels:",
      "#     - {name: ops, kind: email, smtp: {url: {env: SMTP_URL}}, to: [ops@example.com]}",
    ];
  const name = channelName(channel);
  const url = `{file: ${quoted(`${keys}/${CHANNEL_FILE}`)}}`;
  const way =
    channel.kind === "email"
      ? `kind: email, smtp: {url: ${url}}, to: ${list(channel.to)}`
      : `kind: webhook, format: ${channel.format}, url: ${url}`;
  return [head, "alerts:", "  channels:", `    - {name: ${name}, ${way}}`];
}

/** The text of jbackup.yaml. */
export function draftText(draft: SiteDraft, places: DraftPlaces): string {
  const { keys } = places;
  const url = draft.url.reveal();
  return [
    `site: ${quoted(draft.site)}`,
    "",
    "database:",
    holdsPassword(url)
      ? `  url: {file: ${quoted(`${keys}/database-url`)}}   # it holds a password`
      : `  url: ${quoted(url)}`,
    "",
    "# Every backup is sealed for both recipients. The private half of the first is here, for restores;",
    "# that of the second stands in the recovery kit only.",
    "keys:",
    "  recipients:",
    `    - ${places.recipients[0]}   # daily`,
    `    - ${places.recipients[1]}   # recovery`,
    `  signing: {file: ${quoted(`${keys}/signing`)}}`,
    `  signers: [${places.signer}]`,
    `  identity: {file: ${quoted(`${keys}/identity`)}}`,
    "",
    "# Every backup goes into all of them at once; jbackup storages check tries each",
    "storages:",
    ...draft.storages.map((storage) => storageLine(storage, keys)),
    ...(draft.storages.length === 1
      ? ["# One storage is one fire away from none: add another as soon as you can."]
      : ["minCopies: 2   # fewer stored copies and the backup failed"]),
    "",
    `catalog: {url: ${JSON.stringify(`sqlite:${places.catalog}`)}}`,
    "",
    ...tenantLines(draft.tenants),
    `configFiles: ${list(draft.configFiles)}`,
    "",
    ...retentionLines(draft),
    "objectives: {rto: 1h, rpo: 5m}",
    "",
    ...scheduleLines(draft),
    ...channelLines(draft.channel, keys),
    "",
  ].join("\n");
}
