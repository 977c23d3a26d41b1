import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";

/** A private OpenStack Swift with its S3 API: a real server that checks signatures, digests and multipart uploads. */
export interface Swift {
  endpoint: string;
  accessKeyId: string;
  secretAccessKey: string;
  region: string;
  createBucket(name: string): Promise<void>;
  stop(): Promise<void>;
}

/** The one that the Debian packages are installed for; another may come first in the path. */
const PYTHON = "/usr/bin/python3";

const SERVERS = ["account", "container", "object", "proxy"] as const;
type Server = (typeof SERVERS)[number];

const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
};

/** Swift keeps its metadata in extended attributes, which not every temporary directory can hold. */
function workDirectory(): string {
  const tried: string[] = [];
  for (const base of [tmpdir(), "/var/tmp", process.cwd()]) {
    const directory = mkdtempSync(join(base, "jbackup-swift-"));
    const test = `import os,sys; os.setxattr(sys.argv[1], "user.swift", b"x" * 2000)`;
    if (spawnSync(PYTHON, ["-c", test, directory]).status === 0) return directory;
    rmSync(directory, { recursive: true });
    tried.push(base);
  }
  throw new Error(`no directory with user extended attributes among ${tried.join(", ")}`);
}

const RINGS = `
import sys
from swift.common.ring import RingBuilder
folder = sys.argv[1]
for name, port in zip(("account", "container", "object"), sys.argv[2:]):
    builder = RingBuilder(4, 1, 0)
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "d1", "weight": 1.0,
                     "replication_ip": "127.0.0.1", "replication_port": int(port), "meta": ""})
    builder.rebalance()
    builder.get_ring().save("%s/%s.ring.gz" % (folder, name))
`;

const PROXY_PIPELINE =
  "catch_errors gatekeeper healthcheck cache bulk s3api tempauth slo dlo versioned_writes proxy-server";

function configuration(
  server: Server,
  place: { etc: string; devices: string; port: number; memcached: number },
): string {
  const common = `[DEFAULT]
bind_ip = 127.0.0.1
bind_port = ${place.port}
workers = 0
user = ${userInfo().username}
swift_dir = ${place.etc}
devices = ${place.devices}
mount_check = false
fallocate_reserve = 0
disable_fallocate = true
log_level = WARNING
`;
  if (server !== "proxy")
    return `${common}
[pipeline:main]
pipeline = ${server}-server
[app:${server}-server]
use = egg:swift#${server}
`;
  return `${common}
[pipeline:main]
pipeline = ${PROXY_PIPELINE}
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:s3api]
use = egg:swift#s3api
min_segment_size = 1048576
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:${place.memcached}
${["catch_errors", "gatekeeper", "healthcheck", "bulk", "slo", "dlo", "versioned_writes"]
  .map((name) => `[filter:${name}]\nuse = egg:swift#${name}`)
  .join("\n")}
`;
}

async function until(isReady: () => Promise<boolean>, what: string, log: () => string): Promise<void> {
  for (let waitedMs = 0; waitedMs < 30_000; waitedMs += 50) {
    if (await isReady().catch(() => false)) return;
    await delay(50);
  }
  throw new Error(`${what} did not start:\n${log()}`);
}

export async function startSwift(): Promise<Swift> {
  const directory = workDirectory();
  chmodSync(directory, 0o755);
  const etc = join(directory, "etc");
  const devices = join(directory, "srv");
  mkdirSync(etc);
  mkdirSync(join(devices, "d1"), { recursive: true });
  const [account = 0, container = 0, object = 0, proxy = 0, memcached = 0] = await Promise.all(
    Array.from({ length: 5 }, freePort),
  );
  const ports: Record<Server, number> = { account, container, object, proxy };
  writeFileSync(
    join(etc, "swift.conf"),
    `[swift-hash]\nswift_hash_path_suffix = ${randomBytes(8).toString("hex")}\n`,
  );
  for (const server of SERVERS)
    writeFileSync(
      join(etc, `${server}-server.conf`),
      configuration(server, { etc, devices, port: ports[server], memcached }),
    );
  const rings = spawnSync(PYTHON, ["-c", RINGS, etc, ...[account, container, object].map(String)], {
    encoding: "utf8",
  });
  if (rings.status !== 0) throw new Error(`the rings were not built: ${rings.stderr}`);

  const logFile = join(directory, "log");
  const log = openSync(logFile, "a");
  const children: ChildProcess[] = [];
  // A test run that is interrupted calls no clean-up of its own.
  const endAll = (): void => {
    for (const child of children) killGroup(child);
  };
  process.once("exit", endAll);
  const start = (command: string, args: string[]): void => {
    // The kernel ends them should the test run be killed without a chance to clean up.
    const tied = ["--pdeathsig", "KILL", "--", command, ...args];
    children.push(spawn("setpriv", tied, { stdio: ["ignore", log, log], detached: true, cwd: directory }));
  };
  const stop = async (): Promise<void> => {
    await Promise.all(children.map(endGroup));
    process.off("exit", endAll);
    rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
  };
  try {
    start("memcached", ["-l", "127.0.0.1", "-p", String(memcached), "-m", "16", "-u", userInfo().username]);
    for (const server of SERVERS) start(`swift-${server}-server`, [join(etc, `${server}-server.conf`), "-v"]);
    const endpoint = `http://127.0.0.1:${proxy}`;
    const readLog = (): string => readFileSync(logFile, "utf8").slice(-2000);
    await until(async () => (await fetch(`${endpoint}/healthcheck`)).ok, "swift", readLog);
    const swift: Swift = {
      endpoint,
      accessKeyId: "test:tester",
      secretAccessKey: "testing",
      region: "us-east-1",
      stop,
      async createBucket(Bucket) {
        const client = new S3Client({
          endpoint,
          region: "us-east-1",
          forcePathStyle: true,
          credentials: { accessKeyId: "test:tester", secretAccessKey: "testing" },
        });
        await client.send(new CreateBucketCommand({ Bucket }));
        client.destroy();
      },
    };
    await until(() => swift.createBucket("ready").then(() => true), "swift's S3 API", readLog);
    return swift;
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The servers fork workers: the whole group is ended, and waited for. */
async function endGroup(child: ChildProcess): Promise<void> {
  const ended =
    child.exitCode !== null || child.signalCode !== null
      ? Promise.resolve()
      : new Promise((resolve) => child.once("exit", resolve));
  killGroup(child);
  await ended;
}

function killGroup(child: ChildProcess): void {
  try {
    process.kill(-(child.pid ?? 0), "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
