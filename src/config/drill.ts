import { join } from "node:path";
import { Secret } from "../domain/secret.js";
import type { Config } from "./config.js";

const PORT = "5432";

/** The same user and database on the drill's own server, which only its folder's socket leads to. */
export function drillUrl(url: string, folder: string): string {
  const [, user, database] = /^[a-z]+:\/\/(?:([^:@/]*)(?::[^@/]*)?@)?[^/?]*\/?([^?]*)/.exec(url) ?? [];
  const known = user ?? /[?&]user=([^&]*)/.exec(url)?.[1];
  return `postgresql://${known ? `${known}@` : ""}/${database ?? ""}?host=${encodeURIComponent(join(folder, "run"))}&port=${PORT}`;
}

/** The same user, password and database on another server. */
export function urlOn(url: string, { host, port }: { host: string; port: string }): string {
  const [, login = "", database = "", query = ""] =
    /^[a-z]+:\/\/([^@/?]*@)?[^/?]*\/?([^?#]*)(?:\?([^#]*))?/i.exec(url) ?? [];
  const who = query.split("&").filter((pair) => /^(user|password)=/.test(pair));
  return `postgresql://${login}/${database}?${[...who, `host=${encodeURIComponent(host)}`, `port=${port}`].join("&")}`;
}

/**
 * The site as a drill sees it. The production database is not in it, nor are its catalog, locks, hooks and channels: whatever runs with
 * this configuration cannot reach them. Backups are read from the real storages with the real keys, for that is what is practised.
 */
export function configForDrill(config: Config, folder: string): Config {
  const home = join(folder, "home");
  return {
    ...config,
    home,
    database: {
      ...config.database,
      dataDirectory: "auto",
      url: async () => new Secret(drillUrl((await config.database.url()).reveal(), folder)),
    },
    catalogUrl: async () => new Secret(`sqlite:${join(home, "catalog.db")}`),
    hooks: { ...config.hooks, beforeBackup: [], afterBackup: [], onFailure: [] },
    // what goes wrong in a drill is told by the drill: nobody is woken by its parts
    alerts: { ...config.alerts, channels: [], heartbeats: {} },
    schedule: {},
  };
}
