import { join } from "node:path";
import { isPlain, SECRET_KEYS } from "./blanked.js";
import { type LoadRequest, readConfigText } from "./load.js";
import { parseSettings } from "./parse.js";

export interface DescribedValue {
  path: string;
  value: unknown;
  /** `line 12` of the file, or `default`. */
  origin: string;
}

/** Where a secret comes from may be shown, what it is may not. */
function shown(key: string, value: unknown): unknown {
  if (!SECRET_KEYS.has(key) || !isPlain(value)) return value;
  return "value" in value
    ? "***"
    : Object.fromEntries(
        Object.entries(value).map(([source, from]) => [source, source === "command" ? "***" : from]),
      );
}

const isLeaf = (key: string, value: unknown): boolean =>
  (SECRET_KEYS.has(key) &&
    isPlain(value) &&
    ["value", "env", "file", "command"].some((source) => source in value)) ||
  (!isPlain(value) && !(Array.isArray(value) && value.some(isPlain)));

/** Every effective setting with its origin, secrets blanked. */
export async function describeConfig(
  request: LoadRequest,
): Promise<{ file: string; values: DescribedValue[] }> {
  const { file, text } = await readConfigText(request);
  const { settings, lineOf, has } = parseSettings(text, file);
  const home = request.environment.jbackupHome;
  const complete = {
    ...settings,
    storages: settings.storages ?? [{ name: "local", kind: "local", path: join(home, "storage") }],
    minCopies: settings.minCopies ?? Math.min(2, settings.storages?.length ?? 1),
    catalog: settings.catalog ?? { url: { value: `sqlite:${join(home, "catalog.db")}` } },
    keys: settings.keys ?? { generatedIn: join(home, "keys") },
  };
  const values: DescribedValue[] = [];
  const walk = (value: unknown, path: (string | number)[]): void => {
    const key = String(path.at(-1) ?? "");
    if (value === undefined) return;
    if (path.length > 0 && isLeaf(key, value)) {
      const origin = has(path) ? `line ${lineOf(path)}` : "default";
      values.push({ path: path.join("."), value: shown(key, value), origin });
      return;
    }
    for (const [part, inner] of Object.entries(value as object))
      walk(inner, [...path, Array.isArray(value) ? Number(part) : part]);
  };
  walk(complete, []);
  return { file, values };
}
