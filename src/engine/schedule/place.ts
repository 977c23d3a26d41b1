import { access, readlink } from "node:fs/promises";
import { dirname, isAbsolute, join, resolve } from "node:path";
import type { UnitPlace } from "../../domain/units.js";
import type { Site } from "../site.js";

/** Where the jobs of this site run from, and what they touch. */
export async function placeOf(
  site: Site,
  wish: { isSystem: boolean; user: string | null },
): Promise<UnitPlace> {
  const { config, environment, program } = site;
  const storages = config.storages.flatMap((storage) => (storage.kind === "local" ? [storage.path] : []));
  const catalog = await catalogFolder(site);
  const writable = [...new Set([config.home, ...storages, ...catalog].map((path) => resolve(path)))];
  const touched = [...writable, config.file, ...program, ...(await socketFolders(site))];
  return {
    site: config.site,
    program,
    configFile: resolve(environment.workingDirectory, config.file),
    home: resolve(config.home),
    path: environment.path,
    environmentFile: config.secretVariables.size === 0 ? null : join(dirname(config.file), "jbackup.env"),
    isSystem: wish.isSystem,
    user: wish.user,
    writable,
    needsSharedTmp: touched.some((path) => /^\/(var\/)?tmp(\/|$)/.test(path)),
  };
}

/** Where a catalog in a file lives: its own files stand beside it. */
async function catalogFolder({ config }: Site): Promise<string[]> {
  const file = /^sqlite:(?:\/\/(?=\/))?(\/.*)$/.exec((await config.catalogUrl()).reveal())?.[1];
  return file === undefined ? [] : [dirname(file)];
}

/** Folders of Unix sockets that the addresses of the database and the catalog name. */
async function socketFolders({ config }: Site): Promise<string[]> {
  const addresses = await Promise.all([config.database.url(), config.catalogUrl()]);
  return addresses.flatMap((address) => {
    const text = address.reveal();
    const host =
      /[?&]host=([^&]*)/.exec(text)?.[1] ?? /^[a-z]+:\/\/(?:[^/@]*@)?(%2F[^/:?]*)/i.exec(text)?.[1];
    return host === undefined ? [] : decodeURIComponent(host).split(",").filter(isAbsolute);
  });
}

export const exists = async (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

const IS_UTC = /(^|\/)(UTC|Etc\/UTC|Etc\/UCT|UCT|Universal|Etc\/Universal|Zulu|Etc\/Zulu|Etc\/GMT|GMT)$/;

/** The zone by which cron reads its lines; null when it is UTC. */
export async function foreignZone(file = "/etc/localtime"): Promise<string | null> {
  // without that file the machine's time is UTC
  const target = await readlink(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return "UTC";
    if (error.code === "EINVAL") return "a file of its own"; // no link: nobody can tell which zone it is
    throw error;
  });
  return IS_UTC.test(target) ? null : target.replace(/^.*zoneinfo\//, "");
}
