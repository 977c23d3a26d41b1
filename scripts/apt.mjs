import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { exec, report, run, say, stageFailed } from "./stage.mjs";

const POLICY = "/usr/sbin/policy-rc.d";
const CLUSTER_DEFAULTS = "/etc/postgresql-common/createcluster.conf";

/** Installs Debian packages and nothing more: no service is started, no PostgreSQL cluster is created. */
export async function aptInstall(packages) {
  say(`installing with apt-get: ${packages.join(" ")}`);
  const startedAt = Date.now();
  const allowServices = forbidServices();
  let restoreDefaults = () => {};
  try {
    if (packages.includes("postgresql")) {
      // its configuration decides whether the server package creates a cluster, so it has to be there first
      await install(["postgresql-common"], startedAt);
      restoreDefaults = forbidMainCluster();
    }
    await install(packages, startedAt);
  } finally {
    restoreDefaults();
    allowServices();
  }
  report("apt-get install", true, startedAt);
}

async function install(packages, startedAt) {
  const command = ["install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", ...packages];
  let result = hasPackageLists() ? await aptGet(command) : undefined;
  // lists that are absent or too old name files that the mirror no longer has
  if (result?.code !== 0) {
    const updated = await aptGet(["update"]);
    result = updated.code === 0 ? await aptGet(command) : updated;
  }
  if (result.code === 0) return;
  say(result.output.trimEnd());
  report("apt-get install", false, startedAt);
  throw stageFailed(result);
}

const hasPackageLists = () =>
  existsSync("/var/lib/apt/lists") &&
  readdirSync("/var/lib/apt/lists").some((name) => /_Packages(\.|$)/.test(name));

const aptGet = (args) =>
  run("apt-get", ["-q", ...args], exec.capture, {
    ...process.env,
    DEBIAN_FRONTEND: "noninteractive",
    RUNLEVEL: "1",
    LC_ALL: "C.UTF-8",
  });

/** The policy is void once this process is gone, so a killed run leaves nothing that blocks services later. */
function forbidServices() {
  if (existsSync(POLICY)) return () => {};
  writeFileSync(POLICY, `#!/bin/sh\nkill -0 ${process.pid} 2>/dev/null && exit 101\nexit 0\n`, {
    mode: 0o755,
  });
  return () => rmSync(POLICY, { force: true });
}

function forbidMainCluster() {
  const before = existsSync(CLUSTER_DEFAULTS) ? readFileSync(CLUSTER_DEFAULTS, "utf8") : undefined;
  mkdirSync(dirname(CLUSTER_DEFAULTS), { recursive: true });
  const others = (before ?? "").replace(/^\s*create_main_cluster\b.*\n?/gm, "");
  writeFileSync(CLUSTER_DEFAULTS, `${others}\ncreate_main_cluster = false\n`);
  return () => {
    if (before === undefined) rmSync(CLUSTER_DEFAULTS, { force: true });
    else writeFileSync(CLUSTER_DEFAULTS, before);
  };
}
