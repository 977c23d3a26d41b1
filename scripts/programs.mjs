import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readdirSync } from "node:fs";
import { delimiter, join } from "node:path";
import { aptInstall } from "./apt.mjs";
import { stop } from "./stage.mjs";

const SYSTEM_DIRECTORIES = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

const isExecutable = (path) => {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
};

const onPath = (program) =>
  [...(process.env.PATH ?? "").split(delimiter), ...SYSTEM_DIRECTORIES].some((directory) =>
    isExecutable(join(directory, program)),
  );

/** Debian keeps the server's programs out of PATH, one directory per major version. */
function hasPostgresServer() {
  if (onPath("initdb")) return true;
  const configured = spawnSync("pg_config", ["--bindir"], { encoding: "utf8" });
  if (configured.status === 0 && isExecutable(join(configured.stdout.trim(), "initdb"))) return true;
  const versions = existsSync("/usr/lib/postgresql") ? readdirSync("/usr/lib/postgresql") : [];
  return versions.some((version) => isExecutable(join("/usr/lib/postgresql", version, "bin", "initdb")));
}

const postgres = { name: "a PostgreSQL server (initdb)", package: "postgresql", isThere: hasPostgresServer };
const program = (name, debianPackage) => ({ name, package: debianPackage, isThere: () => onPath(name) });

const NEEDED = {
  demo: [postgres],
  test: [
    postgres,
    program("swift-proxy-server", "swift-proxy"),
    program("swift-account-server", "swift-account"),
    program("swift-container-server", "swift-container"),
    program("swift-object-server", "swift-object"),
    program("memcached", "memcached"),
    program("tmux", "tmux"),
    program("systemd-analyze", "systemd"),
    { name: "a C compiler", package: "tcc", isThere: () => ["cc", "tcc"].some(onPath) },
  ],
};

/** Sees to it that the programs that npm cannot bring are on this machine, or says how to get them. */
export async function requirePrograms(purpose) {
  const missing = NEEDED[purpose].filter((one) => !one.isThere());
  if (missing.length === 0) return;
  const packages = missing.map((one) => one.package);
  const names = missing.map((one) => one.name).join(", ");
  if (!onPath("apt-get"))
    throw stop(`missing: ${names}; install them with this system's package manager`, 16);
  if (process.getuid() !== 0) {
    throw stop(
      `missing: ${names}; install with\n  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${packages.join(" ")}`,
      16,
    );
  }
  await aptInstall(packages);
  const still = missing.filter((one) => !one.isThere());
  if (still.length > 0)
    throw stop(`still missing after apt-get: ${still.map((one) => one.name).join(", ")}`, 16);
}
