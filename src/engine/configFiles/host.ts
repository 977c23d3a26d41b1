import { readFile } from "node:fs/promises";
import { arch, release, type } from "node:os";
import type { HostFacts } from "../../domain/installPlan.js";
import { runProgram } from "../../sys/aside.js";
import type { Site } from "../site.js";

/** What surrounds a server of PostgreSQL on a host of ours. */
const PACKAGES = [
  "postgresql*",
  "pgbouncer*",
  "pgbackrest",
  "pgpool*",
  "patroni*",
  "timescaledb*",
  "libpq5",
  "nodejs",
];

const FIELDS = ["Package", "Version", "db:Status-Status"];

export async function hostFacts(site: Site): Promise<HostFacts> {
  return {
    name: site.environment.host,
    system: await systemName(),
    kernel: `${type()} ${release()}`,
    architecture: arch(),
    node: process.version,
    jbackup: site.version,
    packages: await packagesHere(site),
  };
}

async function systemName(): Promise<string> {
  const text = await readFile("/etc/os-release", "utf8").catch(() => ""); // another kind of system: its kernel must do
  return /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(text)?.[1] ?? type();
}

async function packagesHere(site: Site): Promise<HostFacts["packages"]> {
  const { path } = site.environment;
  const { signal } = site;
  // a pattern that fits nothing makes it end with 1, and tell the others all the same
  const debian = await runProgram(
    "dpkg-query",
    ["--show", `--showformat=${FIELDS.map((field) => `$\{${field}}`).join(" ")}\\n`, ...PACKAGES],
    { path, signal },
  );
  if (debian !== null) return listed(debian.stdout.split("\n").filter((line) => line.endsWith(" installed")));
  const redHat = await runProgram(
    "rpm",
    ["-qa", "--queryformat=%{NAME} %{VERSION}-%{RELEASE}\\n", ...PACKAGES],
    {
      path,
      signal,
    },
  );
  return redHat === null ? null : listed(redHat.stdout.split("\n"));
}

const listed = (lines: string[]): { name: string; version: string }[] =>
  lines
    .map((line) => line.split(" "))
    .flatMap(([name, version]) => (name && version ? [{ name, version }] : []))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));

/** Which package brought each of these files, where one did. */
export async function packagesOf(site: Site, files: readonly string[]): Promise<Map<string, string>> {
  if (files.length === 0) return new Map();
  const { path } = site.environment;
  const ended = await runProgram("dpkg-query", ["--search", ...files], { path, signal: site.signal });
  return new Map(
    (ended?.stdout ?? "").split("\n").flatMap((line): [string, string][] => {
      const [, name, file] = /^([^\s:,]+)(?::[^\s,]+)?(?:, [^:]*)?: (\/.*)$/.exec(line) ?? [];
      return name !== undefined && file !== undefined ? [[file, name]] : [];
    }),
  );
}
