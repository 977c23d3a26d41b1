import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Session } from "../../postgres/postgres.js";
import type { Site } from "../site.js";

/** What every scene of the demo plays on. */
export interface Stage {
  /** The demo's own folder: configuration, catalog, keys, and the three disks. */
  home: string;
  signal: AbortSignal;
  open(): Promise<Site>;
  say(line: string): void;
}

export const DISKS = ["disk-a", "disk-b", "disk-c"] as const;
export const diskOf = ({ home }: Stage, disk: (typeof DISKS)[number]): string => join(home, disk);

export const writeConfig = (file: string, home: string, url: string): Promise<void> =>
  writeFile(
    file,
    [
      "site: demo",
      `database: {url: "${url}"}`,
      "storages:",
      ...DISKS.map((name) => `  - {name: ${name}, kind: local, path: ${join(home, name)}}`),
      "tenants:",
      "  table: app.tenants",
      "  nameColumn: company_name",
      `  activeWhere: "status = 'ACTIVE'"`,
      "  setting: app.tenant_id",
      "",
    ].join("\n"),
    { mode: 0o600 },
  );

/** A site opened anew, as every command of the shell would. */
export async function withSite<Result>(
  { open, signal }: Stage,
  work: (site: Site) => Promise<Result>,
): Promise<Result> {
  signal.throwIfAborted();
  const site = await open();
  try {
    return await work(site);
  } finally {
    await site.close();
  }
}

export async function inDatabase<Result>(
  site: Site,
  database: string | undefined,
  work: (session: Session) => Promise<Result>,
): Promise<Result> {
  site.signal.throwIfAborted();
  const session = await (await site.postgres()).connect(database);
  try {
    return await work(session);
  } finally {
    await session.close();
  }
}

export const inShop = <Result>(site: Site, work: (session: Session) => Promise<Result>): Promise<Result> =>
  inDatabase(site, undefined, work);

export async function asAdmin(site: Site, ...statements: string[]): Promise<void> {
  const admin = await (await site.postgres()).admin();
  try {
    for (const sql of statements) await admin.run(sql);
  } finally {
    await admin.close();
  }
}

/** The server's clock, to the microsecond: what happens from now on is later. */
export async function momentOf(session: Session): Promise<string> {
  const [row] = await session.rows<{ now: string }>(
    `select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as now`,
  );
  return row?.now ?? "";
}

export const counted = (rows: number): string => rows.toLocaleString("en");
export const seconds = (ms: number | null): string => `${((ms ?? 0) / 1000).toFixed(1)} s`;
export const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;
