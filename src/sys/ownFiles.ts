import { constants, lstat, open } from "node:fs/promises";

/** Where everybody may write, a name says nothing about who made what bears it: only its owner does. */
const ourUid = (): number => process.getuid?.() ?? 0;

/** A real directory, no link, that belongs to us or to one of the users that our servers run as. */
export async function isOwnFolder(path: string, others: readonly number[] = []): Promise<boolean> {
  try {
    const found = await lstat(path);
    return found.isDirectory() && [ourUid(), ...others].includes(found.uid);
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "EACCES"].includes(codeOf(error))) return false;
    throw error;
  }
}

export type OwnFile = { whose: "ours"; text: string } | { whose: "nobody's" } | { whose: "somebody else's" };

/** The text of a plain file that belongs to us. What others put there, and links, are not read. */
export async function readOwnFile(path: string): Promise<OwnFile> {
  try {
    // a pipe must not hold us up before we see what it is
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const found = await file.stat();
      if (!found.isFile() || found.uid !== ourUid()) return { whose: "somebody else's" };
      return { whose: "ours", text: await file.readFile("utf8") };
    } finally {
      await file.close();
    }
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(codeOf(error))) return { whose: "nobody's" };
    if (["EACCES", "EPERM", "ELOOP", "ENXIO"].includes(codeOf(error))) return { whose: "somebody else's" };
    throw error;
  }
}

/** The object that the text holds; null where a power cut tore it. */
export function objectIn(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? "";
