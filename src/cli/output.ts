import type { Writable } from "node:stream";
import { inspect } from "node:util";
import picocolors from "picocolors";
import { JBackupError } from "../domain/errors.js";
import type { Reporter } from "../engine/site.js";
import type { Clock } from "../sys/clock.js";
import { documentPieces } from "./document.js";
import { barProgress, jsonProgress, lineProgress, type ProgressView } from "./progress.js";
import { Redactor } from "./redact.js";
import { printable, printableInColour } from "./text.js";

type Stream = Writable & { isTTY?: boolean; columns?: number };

export interface Streams {
  stdout: Stream;
  stderr: Stream;
}

export interface OutputSettings extends Streams {
  json: boolean;
  quiet: boolean;
  verbose: boolean;
  noColor: boolean;
  forceColor: boolean;
  clock: Clock;
}

export type Paint = Record<"bold" | "red" | "green" | "yellow", (text: string) => string>;

const WIDEST = 160;

/** The reader went away, or the terminal was closed: nobody is left to tell. */
const GONE = ["EPIPE", "EIO", "ERR_STREAM_DESTROYED"];

export const processStreams = (): Streams => ({ stdout: process.stdout, stderr: process.stderr });

/** The one place where text leaves the process: stdout carries the answer, stderr everything else, and neither a secret. */
export class Output {
  readonly json: boolean;
  readonly paint: Paint;
  readonly report: Reporter;
  readonly #settings: OutputSettings;
  readonly #errorPaint: Paint;
  readonly #redactor = new Redactor();
  readonly #progress: ProgressView;
  #isAnswered = false;
  #isHeld = false;
  #held = "";
  #lost: Error | undefined;
  /** What is left of a document that is read more slowly than it is made. */
  #unwritten: { stream: Stream; pieces: Generator<string> } | null = null;

  constructor(settings: OutputSettings) {
    const { stdout, stderr } = settings;
    this.#settings = settings;
    this.json = settings.json;
    this.paint = this.#paintFor(stdout);
    this.#errorPaint = this.#paintFor(stderr);
    this.#progress = this.#progressView();
    this.report = {
      info: (text) => this.#tell("info", text),
      warn: (text) => this.#tell("warning", text),
      progress: (state) => this.#progress.show(state),
      progressEnd: () => this.#progress.end(),
    };
    // `| head` has seen enough, and a backup goes on when its terminal is closed: neither ends the work
    stderr.on("error", () => undefined);
    stdout.on("error", (error: NodeJS.ErrnoException) => {
      if (!GONE.includes(error.code ?? "")) this.#lost ??= error;
    });
  }

  /** Places in a line of the answer. A pipe has no width: there everything is shown. */
  get columns(): number {
    const { isTTY, columns } = this.#settings.stdout;
    return isTTY ? Math.min(WIDEST, columns || 80) : Number.POSITIVE_INFINITY;
  }

  /** Makes this text appear as *** wherever it would be printed. */
  secret(text: string): void {
    this.#redactor.add(text);
  }

  /** The answer: one JSON document, or text, which is made only where it is wanted. Called once by a command. */
  answer(value: unknown, text: string | (() => string)): void {
    this.#progress.end();
    if (!this.json) {
      const shown = typeof text === "string" ? text : text();
      // notes, names and reasons in it come from a database
      const safe = this.#isColoured(this.#settings.stdout) ? printableInColour(shown) : printable(shown);
      const ended = safe === "" || safe.endsWith("\n") ? safe : `${safe}\n`;
      if (this.#isHeld) this.#held += ended;
      else if (ended !== "") this.#write(this.#settings.stdout, ended);
      return;
    }
    if (this.#isAnswered) throw new JBackupError("bug", "a command answered twice");
    this.#isAnswered = true;
    this.#writeDocument(this.#settings.stdout, value, 2);
  }

  /** With --quiet a success has nothing to say. The one document of --json is always written. */
  holdAnswer(): void {
    this.#isHeld = this.#settings.quiet && !this.json;
  }

  /** It did not go well after all: what was held is told. */
  releaseAnswer(): void {
    this.#isHeld = false;
    if (this.#held !== "") this.#write(this.#settings.stdout, this.#held);
    this.#held = "";
  }

  /** A line of a story that is told while it happens; --json keeps stdout for its one document. */
  say(line: string): void {
    this.#progress.end();
    if (this.json) this.#tell("info", line);
    else this.#write(this.#settings.stdout, `${printable(line)}\n`);
  }

  /** A whole screen of a terminal, over the one before: nothing flickers, and nothing of the old one is left. */
  draw(text: string): void {
    const lines = printableInColour(text).split("\n");
    this.#write(
      this.#settings.stdout,
      `\u001b[H${lines.map((line) => `${line}\u001b[K\n`).join("")}\u001b[J`,
    );
  }

  /** Whether the answer is read by somebody at a terminal. */
  get isTerminal(): boolean {
    return !this.json && this.#settings.stdout.isTTY === true;
  }

  /** What went wrong, and what to do. `aside` is an error that came of it, for --verbose only. */
  fail(error: JBackupError, aside?: unknown): void {
    this.#progress.end();
    const { stdout, stderr, verbose } = this.#settings;
    if (this.json) {
      const { code, message, hint, exitCode, details } = error;
      const rest = details ? { details } : {};
      // the codes are the contract's own words; a password that happens to be one of them must not hide it
      const clean = this.#redactor.cleanValue({ message, hint: hint ?? null, ...rest }) as object;
      const document = { error: { code, ...clean, exitCode } };
      // a failure after the answer, while closing, must not make a second document of it
      if (this.#isAnswered) stderr.write(`${JSON.stringify(document)}\n`);
      else stdout.write(`${JSON.stringify(document, null, 2)}\n`);
      this.#isAnswered = true;
    } else {
      this.#write(stderr, `${this.#errorPaint.red("Error:")} ${printable(error.message)}\n`);
      if (error.hint) this.#write(stderr, `${this.#errorPaint.bold("Try:")} ${printable(error.hint)}\n`);
    }
    if (!verbose) return;
    for (const told of [error, aside])
      if (told !== undefined) this.#write(stderr, `${printable(inspect(told, { depth: 4 }))}\n`);
  }

  /** Waits until all is written; answers the error if the answer could not be. */
  async flushed(): Promise<Error | undefined> {
    const { stdout, stderr } = this.#settings;
    await this.#writeRest();
    await Promise.all(
      [stdout, stderr].map((stream) => new Promise<void>((done) => stream.write("", () => done()))),
    );
    return this.#lost;
  }

  #tell(level: "info" | "warning", text: string): void {
    const { stderr, json, quiet } = this.#settings;
    if (quiet && level === "info") return;
    this.#progress.pause();
    if (json) this.#writeDocument(stderr, { event: level, message: text });
    else if (level === "warning")
      this.#write(stderr, `${this.#errorPaint.yellow("Warning:")} ${printable(text)}\n`);
    else this.#write(stderr, `${printable(text)}\n`);
  }

  #progressView(): ProgressView {
    const { quiet, json, stderr, clock } = this.#settings;
    const nothing = (): void => undefined;
    if (quiet) return { show: nothing, pause: nothing, end: nothing };
    if (json) return jsonProgress((event) => this.#writeDocument(stderr, event), clock);
    const clean = (line: string): string => printable(this.#redactor.clean(line));
    return stderr.isTTY
      ? barProgress(stderr, clean, clock)
      : lineProgress((line) => void stderr.write(`${clean(line)}\n`), clock);
  }

  #isColoured(stream: Stream): boolean {
    const { json, noColor, forceColor } = this.#settings;
    return !json && !noColor && (forceColor || stream.isTTY === true);
  }

  #paintFor(stream: Stream): Paint {
    return picocolors.createColors(this.#isColoured(stream));
  }

  #write(stream: Stream, text: string): void {
    stream.write(this.#redactor.clean(text));
  }

  #writeDocument(stream: Stream, value: unknown, spaces = 0): void {
    const pieces = documentPieces(value, spaces, (inner) => this.#redactor.cleanValue(inner));
    this.#unwritten = { stream, pieces };
    this.#goOn();
  }

  /** Writes for as long as somebody reads: a long answer must not pile up in memory before a slow reader. */
  #goOn(): void {
    while (this.#unwritten !== null) {
      const { stream, pieces } = this.#unwritten;
      const { value: piece, done } = pieces.next();
      if (done === true) this.#unwritten = null;
      else if (!stream.write(piece)) return;
    }
  }

  async #writeRest(): Promise<void> {
    while (this.#unwritten !== null) {
      const { stream } = this.#unwritten;
      if (stream.destroyed) return; // the reader has seen enough
      if (stream.writableNeedDrain) await eventOf(stream, ["drain", "error", "close"]);
      if (!stream.destroyed) this.#goOn();
    }
  }
}

const eventOf = (stream: Stream, names: string[]): Promise<void> =>
  new Promise((resolve) => {
    for (const name of names) stream.once(name, () => resolve());
  });
