import { type ErrorCode, JBackupError, reasonOf } from "../domain/errors.js";
import type { CompareTask, Differences } from "./compareFile.js";
import type { Range } from "./open.js";
import type { UnpackTask } from "./unpackRuns.js";

/** What a thread is told to do; it does one thing at a time. */
export type Order =
  | { kind: "unpack-whole"; task: UnpackTask; object: Uint8Array }
  | { kind: "unpack-ranges"; task: UnpackTask; objectBytes: number; ranges: Range[] }
  | { kind: "compare"; task: CompareTask }
  /** The bytes it asked for; null when they could not be had. */
  | { kind: "bytes"; bytes: Uint8Array | null };

/** What a thread says. */
export type Answer =
  | { kind: "wants"; range: Range }
  | { kind: "done"; differences?: Differences }
  | { kind: "failed"; error: SentError };

/** An error's class does not survive the way between threads. */
export interface SentError {
  message: string;
  stack: string | undefined;
  /** Of a JBackupError. */
  code?: ErrorCode;
  hint?: string | undefined;
  details?: Record<string, unknown> | undefined;
  /** Of an error of the system: ENOSPC, and with what it happened. */
  system?: Pick<NodeJS.ErrnoException, "code" | "errno" | "syscall" | "path">;
}

export function sendable(error: unknown): SentError {
  const stack = error instanceof Error ? error.stack : undefined;
  const sent: SentError = { message: reasonOf(error), stack };
  if (error instanceof JBackupError)
    return { ...sent, code: error.code, hint: error.hint, details: error.details };
  const { code, errno, syscall, path } = (error ?? {}) as NodeJS.ErrnoException;
  if (errno === undefined) return sent;
  const system = { errno, ...(code && { code }), ...(syscall && { syscall }), ...(path && { path }) };
  return { ...sent, system };
}

export function received({ message, stack, code, hint, details, system }: SentError): Error {
  const error =
    code === undefined
      ? Object.assign(new Error(message), system)
      : new JBackupError(code, message, { hint, ...(details && { details }) });
  if (stack !== undefined) error.stack = stack;
  return error;
}
