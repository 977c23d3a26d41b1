import { readFileSync } from "node:fs";
import { join } from "node:path";
import { nodePackage, runningNodeIsNewEnough } from "./node.mjs";
import { root, say, stage } from "./stage.mjs";

const readLock = (path) => {
  try {
    return JSON.parse(readFileSync(join(root, path), "utf8")).packages;
  } catch (error) {
    if (error.code === "ENOENT") return undefined;
    throw error;
  }
};

/**
 * Whether what npm wrote down as installed is what the lock file asks for. Contents rather than times are compared:
 * a checkout gives files new times. Optional packages may be absent, except the Node that this machine needs.
 */
export function isInstalled(locked, installed, needed = []) {
  if (!installed) return false;
  for (const [path, entry] of Object.entries(locked)) {
    if (path === "") continue;
    const found = installed[path];
    if (!found && entry.optional && !needed.includes(path)) continue;
    if (!found || found.version !== entry.version || found.integrity !== entry.integrity) return false;
  }
  return Object.keys(installed).every((path) => path in locked);
}

export async function installDependencies() {
  const locked = readLock("package-lock.json");
  const bundledNode = `node_modules/${nodePackage}`;
  const needed = runningNodeIsNewEnough || !(bundledNode in locked) ? [] : [bundledNode];
  if (isInstalled(locked, readLock("node_modules/.package-lock.json"), needed)) return;

  say("installing npm packages");
  // an inherited NODE_ENV=production would leave out the compiler
  const { NODE_ENV: _, ...env } = process.env;
  const npm = process.env.npm_execpath?.endsWith("npm-cli.js")
    ? [process.execPath, [process.env.npm_execpath]]
    : ["npm", []];
  const flags = ["ci", "--include=dev", "--include=optional", "--no-audit", "--no-fund", "--loglevel=error"];
  await stage("npm ci", npm[0], [...npm[1], ...flags], env);
}
