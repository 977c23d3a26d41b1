import fc from "fast-check";
import { expect, test } from "vitest";
import { parseSettings } from "../../src/config/parse.js";
import { Secret } from "../../src/domain/secret.js";
import {
  type DraftPlaces,
  draftText,
  KEEPS,
  type Keep,
  type SiteDraft,
  secretFilesOf,
} from "../../src/domain/siteDraft.js";

const PLACES: DraftPlaces = {
  keys: "/home/keys",
  recipients: ["jbk1pubdaily", "jbk1pubrecovery"],
  signer: "jbk1ver",
  catalog: "/home/catalog.db",
};
const BARE: SiteDraft = {
  site: "shop",
  url: new Secret("postgresql:///shop?host=/var/run/postgresql"),
  storages: [{ kind: "local", name: "local", path: "/backups" }],
  tenants: null,
  keep: "months",
  hour: 23,
  channel: null,
  configFiles: [],
};
const settingsOf = (draft: SiteDraft) => parseSettings(draftText(draft, PLACES), "jbackup.yaml").settings;

test("what was decided is what the file says, whatever the words are", () => {
  const word = fc
    .string({ unit: "grapheme", minLength: 1, maxLength: 20 })
    .filter((text) => !/\p{Cc}/u.test(text));
  const name = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,8}$/);
  const column = fc.oneof(
    word,
    fc.constant("null"),
    fc.constant("yes"),
    fc.constant("1e3"),
    fc.constant("a: b # c"),
  );
  const draft = fc.record({
    site: name,
    path: word.map((text) => `/${text}`),
    table: column,
    setting: column,
    activeWhere: column,
    shared: fc.array(column),
    keep: fc.constantFrom(...(Object.keys(KEEPS) as Keep[])),
    hour: fc.nat(23),
  });
  fc.assert(
    fc.property(draft, ({ site, path, keep, hour, ...tenants }) => {
      const settings = settingsOf({
        ...BARE,
        site,
        keep,
        hour,
        storages: [{ kind: "local", name: "disk", path }],
        tenants: {
          idColumn: "id",
          column: "tenant_id",
          nameColumn: null,
          exclude: [],
          transient: [],
          ...tenants,
        },
        configFiles: [path],
      });
      expect(settings).toMatchObject({
        site,
        storages: [{ name: "disk", path }],
        tenants,
        configFiles: [path],
        schedule: { full: `0 ${hour} * * *`, tenant: expect.any(String) },
      });
      expect(Object.keys(settings.retention).sort()).toEqual(["disk", "pitrWindow"]);
    }),
  );
});

test("secrets have files of their own, and never stand in the text", () => {
  const draft: SiteDraft = {
    ...BARE,
    url: new Secret("postgresql://keeper:pass@word@db/shop"),
    storages: [
      ...BARE.storages,
      {
        ...{
          kind: "s3",
          name: "r2",
          endpoint: "https://x.r2.example",
          bucket: "shop",
          prefix: "prod",
          region: "auto",
        },
        credentials: { id: new Secret("r2-id"), secret: new Secret("r2-secret") },
      },
      {
        ...{ kind: "b2", name: "b2", endpoint: undefined, bucket: "shop", prefix: "" },
        credentials: { id: new Secret("b2-id"), secret: new Secret("b2-secret") },
      },
    ] as SiteDraft["storages"],
    channel: { kind: "email", to: ["a@example.com", "b@example.com"], url: new Secret("smtp://u:mail-pw@h") },
  };
  const text = draftText(draft, PLACES);
  for (const secret of ["pass@word", "r2-id", "r2-secret", "b2-id", "b2-secret", "mail-pw"])
    expect(text).not.toContain(secret);
  expect(secretFilesOf(draft).map(({ file, secret }) => [file, secret.reveal()])).toEqual([
    ["database-url", "postgresql://keeper:pass@word@db/shop"],
    ["r2.id", "r2-id"],
    ["r2.secret", "r2-secret"],
    ["b2.id", "b2-id"],
    ["b2.secret", "b2-secret"],
    ["alerts-url", "smtp://u:mail-pw@h"],
  ]);
  expect(settingsOf(draft)).toMatchObject({
    database: { url: { file: "/home/keys/database-url" } },
    keys: { identity: { file: "/home/keys/identity" }, signing: { file: "/home/keys/signing" } },
    storages: [
      {},
      { accessKeyId: { file: "/home/keys/r2.id" }, secretAccessKey: { file: "/home/keys/r2.secret" } },
      { keyId: { file: "/home/keys/b2.id" }, applicationKey: { file: "/home/keys/b2.secret" } },
    ],
    minCopies: 2,
    alerts: {
      channels: [
        {
          name: "mail",
          kind: "email",
          smtp: { url: { file: "/home/keys/alerts-url" } },
          to: ["a@example.com", "b@example.com"],
        },
      ],
    },
    retention: { local: { within: "30d" }, r2: { weekly: 12 }, b2: { weekly: 12 } },
  });
});

test("a webhook is a channel with an address of its own, and nobody is told where none was chosen", () => {
  const hook = (format: "json" | "slack"): SiteDraft => ({
    ...BARE,
    channel: { kind: "webhook", format, url: new Secret("https://hooks.example/T0/s3cret") },
  });
  const url = { file: "/home/keys/alerts-url" };
  expect(settingsOf(hook("slack")).alerts.channels).toMatchObject([
    { name: "slack", kind: "webhook", format: "slack", url },
  ]);
  expect(settingsOf(hook("json")).alerts.channels).toMatchObject([
    { name: "hook", kind: "webhook", format: "json", url },
  ]);
  expect(draftText(hook("json"), PLACES)).not.toContain("s3cret");
  expect(settingsOf(BARE).alerts.channels).toEqual([]);
});
