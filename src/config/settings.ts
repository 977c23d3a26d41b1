import { z } from "zod";
import { parseBytes } from "../domain/bytes.js";
import { parseCron } from "../domain/cron.js";
import { FOLLOW } from "../domain/schedule.js";
import { nearest } from "../domain/similar.js";
import { parseDuration } from "../domain/time.js";
import type { SecretSource } from "./secrets.js";

/** What a configuration file may say. Still untrusted text: `parse.ts` makes a Config of it. */

/** An object that names the key that was probably meant when it meets one it does not know. */
export const object = <Shape extends z.ZodRawShape>(shape: Shape) =>
  z.strictObject(shape, {
    error: (issue) => {
      if (issue.code === "invalid_type")
        return issue.input === undefined ? "is required" : "expected a mapping of keys to values";
      if (issue.code !== "unrecognized_keys") return undefined;
      const known = Object.keys(shape);
      return issue.keys
        .map((key: string) => {
          const meant = nearest(key, known);
          return meant
            ? `unknown key "${key}"; did you mean "${meant}"?`
            : `unknown key "${key}"; known here: ${known.join(", ")}`;
        })
        .join("; ");
    },
  });

export const text = z.string("expected a text").min(1, "must not be empty");
export const wholeNumber = (from: number, to: number) =>
  z
    .int(`expected a whole number from ${from} to ${to}`)
    .min(from, `must be at least ${from}`)
    .max(to, `must be at most ${to}`);

export const duration = text.refine(
  (value) => parseDuration(value) !== null,
  "expected a duration such as 30d, 1h or 5m",
);

const SECRET_FORMS = "expected a value, {env: NAME}, {file: PATH} or {command: [PROGRAM, ARGUMENT]}";

const secret = z.unknown().transform((value, context): SecretSource => {
  if (typeof value === "string" && value !== "") return { value };
  const form = object({
    env: text.optional(),
    file: text.optional(),
    command: z.array(text).min(1).optional(),
  }).safeParse(value);
  const given = form.success ? Object.entries(form.data).filter(([, part]) => part !== undefined) : [];
  if (given.length !== 1) {
    context.addIssue({ code: "custom", message: SECRET_FORMS });
    return z.NEVER;
  }
  return Object.fromEntries(given) as unknown as SecretSource;
});

const passphrase = object({ passphrase: secret });
const isPassphrase = (value: unknown): boolean =>
  typeof value === "object" && value !== null && "passphrase" in value;

const identity = z.unknown().transform((value, context) => {
  const parsed = isPassphrase(value) ? passphrase.safeParse(value) : secret.safeParse(value);
  if (parsed.success) return parsed.data as SecretSource | { passphrase: SecretSource };
  context.addIssue({ code: "custom", message: `${SECRET_FORMS}, or {passphrase: ...}` });
  return z.NEVER;
});

const name = z
  .string("expected a name")
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/,
    "expected letters, digits, dots, dashes and underscores, starting with a letter or digit",
  );

const keyPrefix = z
  .string()
  .transform((value) => value.replace(/^\/+|\/+$/g, ""))
  .refine(
    (value) => value === "" || /^[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/.test(value),
    "expected folders such as prod or a/b",
  );

const url = text
  .refine((value) => /^https?:\/\/[^/]+/.test(value), "expected an address such as https://host")
  // it is shown in errors and by config show
  .refine((value) => !/^https?:\/\/[^/]*@/.test(value), "an address must not hold a user or a password");

const capacity = text
  .refine((value) => parseBytes(value) !== null, "expected a size such as 500GB or 2TiB")
  .optional();

const storage = z.discriminatedUnion(
  "kind",
  [
    object({ kind: z.literal("local"), name, path: text, capacity }),
    object({
      kind: z.literal("s3"),
      name,
      endpoint: url,
      bucket: text,
      prefix: keyPrefix.default(""),
      capacity,
      region: text.default("auto"),
      accessKeyId: secret,
      secretAccessKey: secret,
      cleanup: object({ accessKeyId: secret, secretAccessKey: secret }).optional(),
    }),
    object({
      kind: z.literal("b2"),
      name,
      endpoint: url.optional(),
      bucket: text,
      prefix: keyPrefix.default(""),
      capacity,
      keyId: secret,
      applicationKey: secret,
      cleanup: object({ keyId: secret, applicationKey: secret }).optional(),
    }),
  ],
  {
    error: (issue) => {
      const kind = (issue.input as { kind?: unknown } | null)?.kind;
      return kind === undefined
        ? "the key kind is missing; kinds are local, s3 (Cloudflare R2 and any S3 API) and b2"
        : `unknown storage kind "${String(kind)}"; kinds are local, s3 (Cloudflare R2 and any S3 API) and b2`;
    },
  },
);

const count = wholeNumber(0, 100_000).optional();
const policy = object({
  within: duration.optional(),
  last: count,
  hourly: count,
  daily: count,
  weekly: count,
  monthly: count,
  yearly: count,
});

const cron = text.check((context) => {
  const parsed = parseCron(context.value);
  if (!parsed.ok) context.issues.push({ code: "custom", message: parsed.problem, input: context.value });
});
/** Or a follower that is kept running. */
const cronOrFollow = text.check((context) => {
  const parsed = context.value === FOLLOW ? { ok: true as const } : parseCron(context.value);
  if (!parsed.ok)
    context.issues.push({
      code: "custom",
      message: `${parsed.problem}, or ${FOLLOW}`,
      input: context.value,
    });
});
const severity = z.enum(
  ["info", "warning", "error", "critical"],
  "expected info, warning, error or critical",
);
const heartbeat = object({ url: secret }).optional();
const heartbeats = {
  full: heartbeat,
  tenant: heartbeat,
  wal: heartbeat,
  config: heartbeat,
  verify: heartbeat,
  cleanup: heartbeat,
  testRestore: heartbeat,
};
/** Comments may go first. Whatever else a query would do is refused by the server, which reads it through a cursor. */
const isQuery = (sql: string): boolean =>
  /^(\s|--[^\n]*(\n|$)|\/\*.*?\*\/)*\(*\s*(select|with|values|table)\b/is.test(sql);

const assertion = object({
  name: text,
  database: text.optional(),
  sql: text.refine(isQuery, "expected one query: it begins with select, with, values or table"),
  expect: z
    .union(
      [z.string(), z.number(), z.boolean(), z.null()],
      "expected one value: a text, a number, true, false or null",
    )
    .optional(),
});
const TEST_RESTORE = { assertions: [], tenants: 1, timeout: "5m" };
const channelBase = { name, atLeast: severity.default("warning") };
const channel = z.discriminatedUnion(
  "kind",
  [
    object({
      ...channelBase,
      kind: z.literal("email"),
      smtp: object({ url: secret, from: text.optional() }),
      to: z.array(text).min(1),
    }),
    object({
      ...channelBase,
      kind: z.literal("webhook"),
      url: secret,
      secret: secret.optional(),
      format: z.enum(["json", "slack", "pagerduty"]).default("json"),
    }),
    object({
      ...channelBase,
      kind: z.literal("sms"),
      provider: z.literal("twilio"),
      endpoint: url.default("https://api.twilio.com"),
      accountId: secret.default({ env: "TWILIO_ACCOUNT_SID" }),
      token: secret.default({ env: "TWILIO_AUTH_TOKEN" }),
      from: text.default(""),
      to: z.array(text).default([]),
    }),
  ],
  { error: () => "expected a channel of kind email, webhook or sms" },
);

/** For the shell, or a program and its arguments, which no shell reads. */
const hook = z.union([text, z.array(text).min(1)], {
  error: () => 'expected a command such as "/usr/local/bin/notify done", or [PROGRAM, ARGUMENT]',
});

export const settingsSchema = object({
  site: name.optional(),
  database: object({
    url: secret,
    dataDirectory: text.default("auto"),
    binDirectory: text.default("auto"),
  }),
  keys: object({
    recipients: z
      .array(
        z.union([text, passphrase], {
          error: () => "expected a recipient (jbk1pub...) or {passphrase: ...}",
        }),
      )
      .min(1, "at least one recipient is needed")
      .optional(),
    signing: secret.optional(),
    signers: z.array(text).default([]),
    identity: z.union([identity, z.array(identity)]).optional(),
  }).optional(),
  storages: z
    .array(storage, "expected a list of storages")
    .min(1, "at least one storage is needed")
    .optional(),
  minCopies: wholeNumber(1, 16).optional(),
  rebaseEvery: duration.default("7d"),
  catalog: object({ url: secret }).optional(),
  compression: object({
    codec: z.enum(["zstd", "gzip", "none"], "expected zstd, gzip or none").default("zstd"),
    level: wholeNumber(1, 19).default(3),
  }).default({ codec: "zstd", level: 3 }),
  tenants: object({
    table: text,
    idColumn: text.default("id"),
    nameColumn: text.optional(),
    activeWhere: text.optional(),
    column: text.default("tenant_id"),
    setting: text.optional(),
    isolation: z.enum(["rls", "none"], "expected rls or none").default("none"),
    role: text.optional(),
    exclude: z.array(text).default([]),
    shared: z.array(text).default([]),
    transient: z.array(text).default([]),
    owners: z.record(text, text).default({}),
    fence: object({ suspend: text.optional(), resume: text.optional() }).default({}),
    afterRestore: z.array(text).default([]),
    erasures: object({
      table: text,
      tableColumn: text.default("table_name"),
      keyColumn: text.default("row_key"),
    }).optional(),
  }).optional(),
  configFiles: z.array(text).default([]),
  runbooks: z.array(text).default([]),
  retention: z.looseObject({ pitrWindow: duration.default("30d") }).default({ pitrWindow: "30d" }),
  objectives: object({
    rto: duration.default("1h"),
    rpo: duration.default("5m"),
    drillEvery: duration.default("35d"),
  }).default({ rto: "1h", rpo: "5m", drillEvery: "35d" }),
  schedule: object({
    full: cron.optional(),
    tenant: cron.optional(),
    wal: cronOrFollow.optional(),
    config: cron.optional(),
    verify: cron.optional(),
    cleanup: cron.optional(),
    testRestore: cron.optional(),
    drill: cron.optional(),
  }).default({}),
  // what a test restore looks at, beyond what it always does
  testRestore: object({
    assertions: z.array(assertion, "expected a list of {name, sql, ...}").default([]),
    tenants: wholeNumber(0, 1000).default(1),
    timeout: duration
      .refine((value) => parseDuration(value) !== 0, "must be longer than nothing")
      .default("5m"),
  }).default(TEST_RESTORE),
  alerts: object({
    channels: z.array(channel).default([]),
    reminderEvery: duration.default("24h"),
    heartbeats: object(heartbeats).optional(),
  }).default({ channels: [], reminderEvery: "24h" }),
  hooks: object({
    beforeBackup: z.array(hook).default([]),
    afterBackup: z.array(hook).default([]),
    onFailure: z.array(hook).default([]),
    timeout: duration.default("10m"),
  }).default({ beforeBackup: [], afterBackup: [], onFailure: [], timeout: "10m" }),
});

export const policySchema = policy;
export const storageSchema = storage;
export type Settings = z.output<typeof settingsSchema>;
export type RetentionPolicy = z.output<typeof policy>;
