import { builtinModules } from "node:module";
import { type Import, targetOf } from "./imports.js";

const ADAPTERS = ["storage", "postgres", "catalog", "alerts", "format"];

interface Layer {
  /** Layers of the repository whose values it may import, besides its own. */
  imports: readonly string[];
  /** Layers of which it may import types only. */
  types?: readonly string[];
  node?: boolean;
  packages?: boolean | readonly string[];
}

const adapter: Layer = { imports: ["domain", "sys"], node: true, packages: true };

const LAYERS: Record<string, Layer> = {
  domain: { imports: [] },
  sys: { imports: ["domain"], node: true },
  ...Object.fromEntries(ADAPTERS.map((name) => [name, adapter])),
  catalog: { ...adapter, imports: [...adapter.imports, "migrations"] },
  config: adapter,
  engine: { imports: ["domain", "sys"], types: [...ADAPTERS, "config"], node: true },
  cli: { imports: ["engine", "domain", "sys", "config"], types: ADAPTERS, node: true, packages: true },
  migrations: { imports: [], node: true, packages: ["kysely"] },
};

/** The only files of a folder that others may import. */
const FRONT_FILES: Record<string, readonly string[]> = {
  storage: ["src/storage/storages.ts", "src/storage/storage.ts"],
  catalog: ["src/catalog/catalogs.ts", "src/catalog/catalog.ts"],
  format: ["src/format/format.ts"],
  postgres: ["src/postgres/postgres.ts"],
  config: ["src/config/config.ts"],
  alerts: ["src/alerts/alerts.ts"],
  migrations: ["migrations/index.ts"],
};

const COMPOSITION_ROOT = ["src/main.ts", "src/wire.ts"];
const NODE_MODULES = new Set(builtinModules);

export const isCompositionRoot = (path: string): boolean => COMPOSITION_ROOT.includes(path);

export function layerOf(path: string): string | undefined {
  const [top = "", folder = "", ...rest] = path.split("/");
  if (top === "migrations") return top;
  return top === "src" && rest.length > 0 && folder in LAYERS ? folder : undefined;
}

/** What is wrong with one import, as a sentence; undefined when nothing is. */
export function judgeImport(importer: string, { specifier, isTypeOnly }: Import): string | undefined {
  if (specifier === undefined)
    return "an import must name its module literally, or its layer cannot be checked";
  if (isCompositionRoot(importer)) return undefined;
  const name = layerOf(importer);
  const layer = name === undefined ? undefined : LAYERS[name];
  if (name === undefined || !layer) return undefined;

  const target = targetOf(importer, specifier, NODE_MODULES);
  if (target.kind === "node") {
    return layer.node ? undefined : `${name} may not import Node's ${target.name}`;
  }
  if (target.kind === "package") {
    const allowed = layer.packages ?? false;
    const isAllowed = Array.isArray(allowed) ? allowed.includes(target.name) : allowed;
    return isAllowed ? undefined : `${name} may not import the package ${target.name}`;
  }
  return judgeFile(name, layer, target.path, isTypeOnly);
}

function judgeFile(name: string, layer: Layer, path: string, isTypeOnly: boolean): string | undefined {
  if (isCompositionRoot(path)) return `only the composition root may import ${path}`;
  const to = layerOf(path);
  if (to === undefined) return `${name} may not import ${path}, which lies outside the layers`;
  if (to === name) return undefined;
  const typesAllowed = layer.types?.includes(to) ?? false;
  if (!layer.imports.includes(to) && !typesAllowed) return `${name} may not import ${to} (${path})`;
  if (!layer.imports.includes(to) && !isTypeOnly)
    return `${name} may import ${to} with "import type" only (${path})`;
  const front = FRONT_FILES[to];
  if (front && !front.includes(path)) {
    return `${to} may only be imported through its front file (${front.join(" or ")}), not ${path}`;
  }
  return undefined;
}
