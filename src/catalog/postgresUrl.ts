import type { PoolConfig } from "pg";
import { JBackupError } from "../domain/errors.js";

export interface PostgresPlace {
  /** For people: user, host, port and database, and nothing else of the URL. */
  location: string;
  config: PoolConfig;
}

/**
 * sslmode means what it means to libpq, because the same URL is given to PostgreSQL's own programs:
 * `require` encrypts, `verify-full` also proves who answers.
 */
export function parsePostgresUrl(url: string): PostgresPlace {
  // the part before the query may hold a password with any character, so only the query is taken as parameters
  const [address = "", query = ""] = splitOnce(url, "?");
  const parameters = new URLSearchParams(query);
  if (parameters.has("sslmode") && !parameters.has("uselibpqcompat"))
    parameters.set("uselibpqcompat", "true");
  const text = parameters.size === 0 ? address : `${address}?${parameters}`;
  return { location: locate(address, parameters), config: { connectionString: text } };
}

function locate(address: string, parameters: URLSearchParams): string {
  const named = parse(address);
  const user = named.username || parameters.get("user");
  const host = parameters.get("host");
  const port = parameters.get("port") ?? named.port;
  const authority = named.hostname === NO_HOST ? "" : named.hostname;
  const place = host ? "" : authority + (port && authority ? `:${port}` : "");
  const suffix = host ? `?host=${host}${port ? `&port=${port}` : ""}` : "";
  return `postgresql://${user ? `${user}@` : ""}${place}${named.pathname}${suffix}`;
}

const NO_HOST = "nohost";

/** `postgresql://user@/database` is good PostgreSQL, but not a URL to the URL class. */
function parse(address: string): URL {
  try {
    return new URL(address.replace("@/", `@${NO_HOST}/`));
  } catch {
    // the cause is left out: it may quote the password
    throw new JBackupError("config_invalid", "catalog.url is not a valid PostgreSQL URL", {
      hint: "Write it as postgresql://user@host:5432/database, special characters of a password percent-encoded.",
    });
  }
}

const splitOnce = (text: string, separator: string): [string, string] => {
  const at = text.indexOf(separator);
  return at === -1 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
};
