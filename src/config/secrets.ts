import { readFile } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { secretPartsOf } from "../domain/address.js";
import type { LazySecret } from "../domain/config.js";
import { JBackupError, reasonOf } from "../domain/errors.js";
import { Secret } from "../domain/secret.js";
import type { Environment } from "./environment.js";

export type SecretSource = { value: string } | { env: string } | { file: string } | { command: string[] };

export interface SecretContext {
  environment: Environment;
  /** Relative file names start at the configuration file's folder. */
  directory: string;
  /** Variables that hold secrets of this configuration: no program is handed them. */
  secretVariables: Set<string>;
  /** Files that hold secrets of this configuration. */
  secretFiles: Set<string>;
  /** Whether the file itself holds one. */
  holdsSecrets: boolean;
  /** Told of every secret that is fetched, so that output can blank it. */
  onSecret: (text: string) => void;
}

const unavailable = (path: string, what: string, hint: string, cause?: unknown): JBackupError =>
  new JBackupError("secret_unavailable", `${path}: ${what}`, { hint, cause });

const pathOf = (file: string, { directory }: SecretContext): string =>
  isAbsolute(file) ? file : join(directory, file);

async function fetchSecret(source: SecretSource, path: string, context: SecretContext): Promise<string> {
  if ("value" in source) return source.value;
  if ("env" in source) {
    const value = context.environment.variable(source.env);
    if (value === undefined || value === "")
      throw unavailable(
        path,
        `environment variable ${source.env} is not set`,
        `set ${source.env}, or change ${path}`,
      );
    return value;
  }
  if ("file" in source) {
    const file = pathOf(source.file, context);
    const text = await readFile(file, "utf8").catch((error: unknown) => {
      throw unavailable(
        path,
        `cannot read ${file}: ${reasonOf(error)}`,
        `check that ${file} exists and is readable by this user`,
        error,
      );
    });
    if (text.trim() === "") throw unavailable(path, `${file} is empty`, `write the secret into ${file}`);
    return text.replace(/\r?\n$/, "");
  }
  const [program = "", ...args] = source.command;
  const { execa } = await import("execa"); // slow to load, and few need it
  const result = await execa(program, args, {
    reject: false,
    stdin: "ignore",
    extendEnv: false,
    env: context.environment.without(context.secretVariables),
    timeout: 30_000,
    maxBuffer: 1_048_576,
  });
  if (result.exitCode !== 0) {
    // neither arguments nor output are shown: both may hold secrets
    const how = result.timedOut ? "took longer than 30 s" : `ended with code ${result.exitCode ?? "?"}`;
    throw unavailable(path, `the command ${program} ${how}`, `run the command of ${path} by hand to see why`);
  }
  if (result.stdout === "")
    throw unavailable(path, `the command ${program} printed nothing`, `run the command of ${path} by hand`);
  return result.stdout;
}

const isGone = (cause: unknown): boolean =>
  ["ENOENT", "ENOTDIR"].includes((cause as NodeJS.ErrnoException | undefined)?.code ?? "");

/** A private key. Where its file is not, nothing is wrong with the configuration: it may lie elsewhere, and opens nothing here. */
export function lazyIdentity(source: SecretSource, path: string, context: SecretContext): LazySecret {
  const fetch = lazySecret(source, path, context);
  let fetched: ReturnType<LazySecret> | undefined;
  return () => {
    fetched ??= fetch().catch((error: unknown) => {
      if (!(error instanceof JBackupError && "file" in source && isGone(error.cause))) throw error;
      throw new JBackupError("no_key", `${path}: there is no file ${pathOf(source.file, context)}`, {
        hint: `bring it back from the recovery kit, or from where it is kept; or name another private key in ${path}`,
        cause: error.cause,
      });
    });
    return fetched;
  };
}

/** Fetched when first asked for, once. */
export function lazySecret(
  source: SecretSource,
  path: string,
  context: SecretContext,
  isAddress = false,
): LazySecret {
  if ("env" in source) context.secretVariables.add(source.env);
  if ("value" in source && (!isAddress || secretPartsOf(source.value).length > 0))
    context.holdsSecrets = true;
  if ("file" in source) context.secretFiles.add(pathOf(source.file, context));
  let fetched: Promise<Secret> | undefined;
  return () => {
    fetched ??= fetchSecret(source, path, context).then((text) => {
      for (const part of isAddress ? secretPartsOf(text) : [text]) context.onSecret(part);
      return new Secret(text);
    });
    return fetched;
  };
}
