import { describe, expect, test } from "vitest";
import { JBackupError } from "../../src/domain/errors.js";
import { captureOutput } from "./captured.js";

const failure = new JBackupError("locked", "another backup runs", {
  hint: "wait for it",
  details: { pid: 12 },
});

test("an answer is text, or one document", () => {
  const text = captureOutput();
  text.output.answer({ a: 1 }, "one");
  expect([text.stdout.text, text.stderr.text]).toEqual(["one\n", ""]);
  const json = captureOutput({ json: true });
  json.output.answer([{ at: new Date(0) }], "one");
  expect([json.stdout.text, json.stderr.text]).toEqual([
    '[\n  {\n    "at": "1970-01-01T00:00:00.000Z"\n  }\n]\n',
    "",
  ]);
  expect(() => json.output.answer([], "")).toThrow("a command answered twice");
});

test("what a database says cannot steer the terminal", () => {
  const said = "a\u001b[2J\u001b]0;title\u0007\u001b[31mb\n";
  const pipe = captureOutput();
  pipe.output.answer({}, said);
  expect(pipe.stdout.text).toBe("a\\x1b[2J\\x1b]0;title\\x07\\x1b[31mb\n");
  const terminal = captureOutput({}, { stdout: 80 });
  terminal.output.answer({}, said);
  expect(terminal.stdout.text).toBe("a\\x1b[2J\\x1b]0;title\\x07\u001b[31mb\n");
});

test("a failure is told on stderr, or is the one document", () => {
  const text = captureOutput();
  text.output.fail(failure);
  expect([text.stdout.text, text.stderr.text]).toEqual([
    "",
    "Error: another backup runs\nTry: wait for it\n",
  ]);
  const json = captureOutput({ json: true });
  json.output.fail(failure);
  expect(JSON.parse(json.stdout.text)).toEqual({
    error: {
      code: "locked",
      message: "another backup runs",
      hint: "wait for it",
      exitCode: 11,
      details: { pid: 12 },
    },
  });
  expect(json.stderr.text).toBe("");
});

test("a failure after the answer does not make a second document", () => {
  const { output, stdout, stderr } = captureOutput({ json: true });
  output.answer({ ok: true }, "");
  output.fail(failure);
  expect(JSON.parse(stdout.text)).toEqual({ ok: true });
  expect(JSON.parse(stderr.text).error.code).toBe("locked");
});

test("the stack and the cause are for --verbose", () => {
  const error = new JBackupError("failed", "it broke", { cause: new Error("deep down") });
  const plain = captureOutput();
  plain.output.fail(error, new Error("aside"));
  expect(plain.stderr.text).toBe("Error: it broke\n");
  const verbose = captureOutput({ verbose: true });
  verbose.output.fail(error, new Error("aside"));
  for (const told of ["Error: it broke\n", "output.test.ts", "deep down", "Error: aside"])
    expect(verbose.stderr.text).toContain(told);
});

describe("colours", () => {
  const coloured = "\u001b[31mError:\u001b[39m another backup runs\n\u001b[1mTry:\u001b[22m wait for it\n";
  const plain = "Error: another backup runs\nTry: wait for it\n";
  test.each([
    ["a terminal", {}, { stderr: 80 }, coloured],
    ["a pipe", {}, {}, plain],
    ["a terminal with NO_COLOR", { noColor: true }, { stderr: 80 }, plain],
    ["a pipe with FORCE_COLOR", { forceColor: true }, {}, coloured],
    ["a pipe with both", { forceColor: true, noColor: true }, {}, plain],
  ])("%s", (_name, settings, columns, expected) => {
    const { output, stderr } = captureOutput(settings, columns);
    output.fail(failure);
    expect(stderr.text).toBe(expected);
  });

  test("the answer has its own stream's colours, and --json none", () => {
    expect(captureOutput({}, { stdout: 80 }).output.paint.bold("x")).toBe("\u001b[1mx\u001b[22m");
    expect(captureOutput({}, { stderr: 80 }).output.paint.bold("x")).toBe("x");
    expect(captureOutput({ json: true, forceColor: true }, { stdout: 80 }).output.paint.bold("x")).toBe("x");
  });
});

test("a pipe has no width, a terminal at most 160 columns, and one that does not know has 80", () => {
  expect(captureOutput().output.columns).toBe(Number.POSITIVE_INFINITY);
  expect(captureOutput({}, { stdout: 40 }).output.columns).toBe(40);
  expect(captureOutput({}, { stdout: 500 }).output.columns).toBe(160);
  expect(captureOutput({}, { stdout: 0 }).output.columns).toBe(80);
});

test("remarks and warnings go to stderr, as lines of JSON under --json", () => {
  const text = captureOutput();
  text.output.report.info("by the way");
  text.output.report.warn("look\u001b[2J here");
  expect([text.stdout.text, text.stderr.text]).toEqual(["", "by the way\nWarning: look\\x1b[2J here\n"]);
  const json = captureOutput({ json: true });
  json.output.report.info("by the way");
  json.output.report.warn("look here");
  json.output.say("once upon a time");
  expect([json.stdout.text, json.stderr.text]).toEqual([
    "",
    '{"event":"info","message":"by the way"}\n{"event":"warning","message":"look here"}\n{"event":"info","message":"once upon a time"}\n',
  ]);
});

describe("a stream that fails", () => {
  const failing = (code: string) => {
    const captures = captureOutput();
    captures.stdout._write = (_chunk: Buffer, _encoding: string, done: (error?: Error) => void) =>
      done(Object.assign(new Error(`write ${code}`), { code }));
    return captures.output;
  };

  test("because its reader has seen enough is no failure", async () => {
    const output = failing("EPIPE");
    output.answer({}, "first");
    output.answer({}, "second");
    expect(await output.flushed()).toBeUndefined();
  });

  test("because the disk is full is one", async () => {
    const output = failing("ENOSPC");
    output.answer({}, "lost");
    expect((await output.flushed())?.message).toBe("write ENOSPC");
  });
});
