import { inspect } from "node:util";
import { JBackupError } from "../domain/errors.js";
import type { Reporter } from "../engine/site.js";
import type { Clock } from "../sys/clock.js";
import { barProgress, jsonProgress, lineProgress, type ProgressView } from "./progress.js";
import { Redactor } from "./redact.js";
import { printable } from "./text.js";

export interface OutputSettings {
  stdout: NodeJS.WritableStream & { isTTY?: boolean; columns?: number };
  stderr: NodeJS.WritableStream & { isTTY?: boolean; columns?: number };
  json: boolean;
  quiet: boolean;
  verbose: boolean;
  noColor: boolean;
  forceColor: boolean;
  clock: Clock;
}

export interface Paint {
  bold(text: string): string;
  dim(text: string): string;
  red(text: string): string;
  green(text: string): string;
  yellow(text: string): string;
}

const code =
  (open: number, close: number) =>
  (text: string): string =>
    `\u001b[${open}m${text}\u001b[${close}m`;
const COLOURED: Paint = {
  bold: code(1, 22),
  dim: code(2, 22),
  red: code(31, 39),
  green: code(32, 39),
  yellow: code(33, 39),
};
const asIs = (text: string): string => text;
const PLAIN: Paint = { bold: asIs, dim: asIs, red: asIs, green: asIs, yellow: asIs };

const WIDEST = 160;

/** The one place where text leaves the process: stdout carries the answer, stderr everything else, and neither a secret. */
export class Output {
  readonly json: boolean;
  readonly paint: Paint;
  readonly report: Reporter;
  readonly #settings: OutputSettings;
  readonly #redactor = new Redactor();
  readonly #progress: ProgressView;

  constructor(settings: OutputSettings) {
    this.#settings = settings;
    this.json = settings.json;
    this.paint = this.#coloured(settings.stdout) ? COLOURED : PLAIN;
    this.#progress = this.#progressView();
    this.report = {
      info: (text) => this.#tell("info", text),
      warn: (text) => this.#tell("warning", text),
      progress: (state) => this.#progress.show(state),
      progressEnd: () => this.#progress.end(),
    };
  }

  /** Places in a line of the answer. A pipe has no width: there everything is shown. */
  get columns(): number {
    return this.#settings.stdout.isTTY
      ? Math.min(WIDEST, this.#settings.stdout.columns ?? 80)
      : Number.POSITIVE_INFINITY;
  }

  /** Makes this text appear as *** wherever it would be printed. */
  secret(text: string): void {
    this.#redactor.add(text);
  }

  /** The answer: one JSON document, or text. Called once by a command. */
  answer(value: unknown, text: string): void {
    this.#progress.end();
    if (this.json) this.#write(this.#settings.stdout, `${JSON.stringify(value, null, 2)}\n`);
    else if (text !== "") this.#write(this.#settings.stdout, text.endsWith("\n") ? text : `${text}\n`);
  }

  /** A line of a story that is told while it happens; --json keeps stdout for its one document. */
  say(line: string): void {
    this.#progress.end();
    if (this.json) this.#tell("info", line);
    else this.#write(this.#settings.stdout, `${line}\n`);
  }

  /** Help and completion scripts: text whatever the flags say. */
  raw(text: string): void {
    this.#write(this.#settings.stdout, text);
  }

  fail(error: JBackupError): void {
    this.#progress.end();
    if (this.json) {
      const { code: errorCode, message, hint, exitCode, details } = error;
      const document = {
        error: { code: errorCode, message, hint: hint ?? null, exitCode, ...(details ? { details } : {}) },
      };
      this.#write(this.#settings.stdout, `${JSON.stringify(document, null, 2)}\n`);
      return;
    }
    const paint = this.#coloured(this.#settings.stderr) ? COLOURED : PLAIN;
    this.#write(this.#settings.stderr, `${paint.red("Error:")} ${printable(error.message)}\n`);
    if (error.hint) this.#write(this.#settings.stderr, `${paint.bold("Try:")} ${printable(error.hint)}\n`);
    if (this.#settings.verbose) this.#write(this.#settings.stderr, `${inspect(error, { depth: 4 })}\n`);
  }

  #tell(level: "info" | "warning", text: string): void {
    if (this.#settings.quiet && level === "info") return;
    this.#progress.end();
    const { stderr, json } = this.#settings;
    if (json) {
      this.#write(stderr, `${JSON.stringify({ event: level, message: text })}\n`);
      return;
    }
    const paint = this.#coloured(stderr) ? COLOURED : PLAIN;
    this.#write(
      stderr,
      level === "warning" ? `${paint.yellow("Warning:")} ${printable(text)}\n` : `${printable(text)}\n`,
    );
  }

  #progressView(): ProgressView {
    const { quiet, json, stderr, clock } = this.#settings;
    const write = (line: string): void => this.#write(stderr, `${line}\n`);
    if (quiet) return { show: () => undefined, end: () => undefined };
    if (json) return jsonProgress(write, clock);
    return stderr.isTTY ? barProgress(stderr as NodeJS.WriteStream, clock) : lineProgress(write, clock);
  }

  #coloured(stream: OutputSettings["stdout"]): boolean {
    const { json, noColor, forceColor } = this.#settings;
    return !json && !noColor && (forceColor || stream.isTTY === true);
  }

  #write(stream: NodeJS.WritableStream, text: string): void {
    stream.write(this.#redactor.clean(text));
  }
}

/** Whatever was thrown, as an error that says what to do. */
export function asJBackupError(error: unknown, version: string): JBackupError {
  if (error instanceof JBackupError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new JBackupError("bug", `unexpected: ${message}`, {
    hint: `this is a bug in jbackup ${version}; report it with the output of the same command and --verbose`,
    cause: error,
  });
}
