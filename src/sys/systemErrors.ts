import { constants } from "node:os";

/** Errors of the system that Node has no name for: to it they are all "Unknown system error -122". */
const WORDS: Record<string, string> = {
  EDQUOT: "disk quota exceeded",
  ESTALE: "stale file handle",
};

/** Gives an error of the system the code and the words that it lacks. */
export function nameSystemError(error: unknown): void {
  const { code, errno, message } = (error ?? {}) as Partial<NodeJS.ErrnoException>;
  if (!code?.startsWith("Unknown system error") || errno === undefined) return;
  const name = Object.entries(constants.errno).find(([, number]) => number === -errno)?.[0];
  if (name === undefined) return;
  Object.assign(error as Error, {
    code: name,
    message: `${name}: ${WORDS[name] ?? "an error of the system"}${message?.replaceAll(/(: )?Unknown system error -\d+/g, "") ?? ""}`,
  });
}

const { ENOSPC, EDQUOT, EFBIG } = constants.errno;

/** No room, whatever name Node has for it. */
export const isFullDisk = (error: unknown): boolean =>
  [ENOSPC, EDQUOT, EFBIG].includes(-((error as NodeJS.ErrnoException | null)?.errno ?? 0));
