import { readFile } from "node:fs/promises";
import { SERVER } from "../../domain/configBackup.js";
import { isJBackupError, JBackupError, reasonOf } from "../../domain/errors.js";
import type { PlannedServer } from "../../domain/installPlan.js";
import type { Archive } from "../../format/format.js";
import type { ServerConfig } from "../../postgres/postgres.js";
import type { Site } from "../site.js";
import { packagesOf } from "./host.js";
import type { ScanNotes } from "./scan.js";

/** A configuration file that is longer is none. */
const LONGEST_BYTES = 4 * 2 ** 20;

export async function* textOf(text: string): AsyncGenerator<Buffer> {
  yield Buffer.from(text);
}

export const addText = (archive: Archive, name: string, text: string) => archive.addEntry(name, textOf(text));

const addJson = (archive: Archive, name: string, value: unknown) =>
  addText(archive, `${SERVER}/${name}.json`, `${JSON.stringify(value, null, 2)}\n`);

/** What the server says of itself, as entries; answers what the install plan needs of it. */
export async function addServer(
  site: Site,
  archive: Archive,
  config: ServerConfig,
  notes: ScanNotes,
): Promise<PlannedServer> {
  await addJson(archive, "settings", config.settings);
  await addJson(archive, "databases", config.databases);
  await addJson(archive, "tablespaces", config.tablespaces);
  if (config.hba !== null) await addJson(archive, "hba", config.hba);
  if (config.ident !== null) await addJson(archive, "ident", config.ident);
  await addRawFiles(site, archive, config, notes);
  const hasRoles = await addRoles(site, archive, config, notes);
  notes.notes.push(...config.hidden.map((what) => `not kept: ${what}`));
  return planned(site, config, hasRoles);
}

async function addRoles(
  site: Site,
  archive: Archive,
  config: ServerConfig,
  { missed }: ScanNotes,
): Promise<boolean> {
  try {
    await archive.addEntry(`${SERVER}/roles.sql`, config.roles());
    return true;
  } catch (error) {
    site.signal.throwIfAborted();
    if (!isJBackupError(error, "environment", "version_mismatch", "tool_failed")) throw error;
    missed.push({ path: "the roles of the server", why: reasonOf(error) });
    return false;
  }
}

/** As they are written, comments and all, also where configFiles does not name them. */
async function addRawFiles(
  site: Site,
  archive: Archive,
  config: ServerConfig,
  { notes }: ScanNotes,
): Promise<void> {
  for (const path of config.files) {
    const name = `${SERVER}/raw${path}`;
    if (!site.format.isEntryName(name)) continue;
    const text = (config.isHere ? await readHere(path) : null) ?? (await config.readFile(path));
    if (text === null)
      notes.push(`${path} of the server is kept as its rows only: this user may not read it`);
    else if (text.length <= LONGEST_BYTES) await addText(archive, name, text);
  }
}

const readHere = async (path: string): Promise<string | null> => {
  try {
    return await readFile(path, "utf8");
  } catch {
    return null; // the server itself is asked next
  }
};

async function planned(site: Site, config: ServerConfig, hasRoles: boolean): Promise<PlannedServer> {
  const { server, databases, tablespaces, settings, isHere, dataDirectory } = config;
  const all = databases.flatMap(({ name: database, extensions }) =>
    extensions.map(({ name, version }) => ({ database, name, version })),
  );
  const controlFile = (name: string): string =>
    `/usr/share/postgresql/${server.major}/extension/${name}.control`;
  const packages = isHere
    ? await packagesOf(site, [...new Set(all.map(({ name }) => controlFile(name)))])
    : new Map<string, string>();
  return {
    version: server.version,
    major: server.major,
    isHere,
    dataDirectory,
    databases,
    extensions: all.map((one) => ({ ...one, package: packages.get(controlFile(one.name)) ?? null })),
    tablespaces,
    settings: settings.map(({ name, value, unit, sourcefile }) => ({
      name: name ?? "",
      value: value ?? "",
      unit: unit ?? null,
      source: sourcefile ?? null,
    })),
    hasRoles,
  };
}

/** The server, or why it cannot be asked: the files of the host are worth keeping without it. */
export async function askServer(site: Site): Promise<ServerConfig | JBackupError> {
  try {
    return await (await site.postgres()).openConfig();
  } catch (error) {
    site.signal.throwIfAborted();
    if (error instanceof JBackupError && error.code !== "bug") return error;
    throw error;
  }
}
