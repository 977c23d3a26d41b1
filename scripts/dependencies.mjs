import { readFileSync } from "node:fs";
import { join } from "node:path";
import { nodePackage, runningNodeIsNewEnough } from "./node.mjs";
import { root, say, stage, stop } from "./stage.mjs";

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
  const isCurrent = () => isInstalled(locked, readLock("node_modules/.package-lock.json"), needed);
  if (isCurrent()) return;

  say("installing npm packages");
  // an inherited NODE_ENV=production would leave out the compiler
  const { NODE_ENV: _, ...env } = process.env;
  const [npm, ...before] = process.env.npm_execpath?.endsWith("npm-cli.js")
    ? [process.execPath, process.env.npm_execpath]
    : ["npm"];
  // Unlike `npm ci` this leaves in place what is right already, and takes a lock file that lacks optional packages of
  // other platforms, which npm itself writes at times. That the lock file was followed is checked below.
  const flags = ["install", "--no-save", "--include=dev", "--include=optional", "--no-audit", "--no-fund"];
  await stage("npm packages", npm, [...before, ...flags, "--loglevel=error"], env);
  if (!isCurrent()) {
    throw stop("npm did not install what package-lock.json asks for: remove node_modules and try again", 1);
  }
}
