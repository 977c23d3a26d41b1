import { spawn } from "node:child_process";
import { chown, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { runHere } from "./inProcess.js";

export const BIN = fileURLToPath(new URL("../../bin/jbackup.js", import.meta.url));

export interface Ran {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface RunningSite extends Promise<Ran> {
  pid: number;
}

export interface TestSite {
  folder: string;
  home: string;
  configFile: string;
  environment: NodeJS.ProcessEnv;
  /** The real command in a process of its own. */
  start(args: string[], environment?: NodeJS.ProcessEnv): RunningSite;
  /** The same, or in the test's process where the site is made `here`. */
  run(...args: string[]): Promise<Ran>;
  /** Runs with --json, expects success (or the given codes), answers the one document. */
  // biome-ignore lint/suspicious/noExplicitAny: a JSON document
  json(args: string[], codes?: number[]): Promise<any>;
  configure(text: string): Promise<void>;
  remove(): Promise<void>;
}

export interface SiteOptions {
  url: string;
  name?: string;
  /** Lines below `storages:`; one local storage by default. */
  storages?: (folder: string) => string[];
  more?: string[];
  environment?: NodeJS.ProcessEnv;
  /** Commands run in the test's own process unless they are started: many of them take a fraction of the time. */
  here?: boolean;
  /** Whom the commands run as, and who owns the folder; whoever runs the tests by default. */
  owner?: { uid: number; gid: number } | undefined;
}

export async function makeSite(options: SiteOptions): Promise<TestSite> {
  const folder = await mkdtemp(join(tmpdir(), "jbackup-site-"));
  const home = join(folder, "home");
  const configFile = join(folder, "jbackup.yaml");
  const environment: NodeJS.ProcessEnv = {
    PATH: process.env.PATH,
    HOME: folder,
    JBACKUP_HOME: home,
    JBACKUP_CONFIG: configFile,
    ...options.environment,
  };
  const storages = options.storages?.(folder) ?? [
    `- {name: local, kind: local, path: ${join(folder, "local")}}`,
  ];
  const configure = (text: string): Promise<void> => writeFile(configFile, text, { mode: 0o600 });
  await configure(
    [
      `site: ${options.name ?? "test"}`,
      `database: {url: "${options.url}"}`,
      "storages:",
      ...storages.map((line) => `  ${line}`),
      ...(options.more ?? []),
      "",
    ].join("\n"),
  );
  const { owner } = options;
  if (owner) for (const path of [folder, configFile]) await chown(path, owner.uid, owner.gid);
  const start = (args: string[], more: NodeJS.ProcessEnv = {}): RunningSite => {
    const child = spawn(process.execPath, [BIN, ...args], {
      env: { ...environment, ...more },
      ...(owner ? { ...owner, cwd: folder } : {}),
      stdio: ["ignore", "pipe", "pipe"],
    });
    const ran = new Promise<Ran>((resolve, reject) => {
      const stdout: Buffer[] = [];
      const stderr: Buffer[] = [];
      child.stdout.on("data", (chunk) => stdout.push(chunk));
      child.stderr.on("data", (chunk) => stderr.push(chunk));
      child.on("error", reject);
      child.on("close", (code, signal) =>
        resolve({
          code,
          signal,
          stdout: Buffer.concat(stdout).toString(),
          stderr: Buffer.concat(stderr).toString(),
        }),
      );
    });
    return Object.assign(ran, { pid: child.pid as number });
  };
  const run = (...args: string[]): Promise<Ran> =>
    options.here && !options.owner ? runHere(args, environment) : start(args);
  return {
    folder,
    home,
    configFile,
    environment,
    start,
    run,
    async json(args, codes = [0]) {
      const ran = await run(...args, "--json");
      if (!codes.includes(ran.code ?? -1)) throw new Error(`exit ${ran.code}: ${ran.stdout}\n${ran.stderr}`);
      return JSON.parse(ran.stdout);
    },
    configure,
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}
