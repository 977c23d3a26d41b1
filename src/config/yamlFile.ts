import { basename } from "node:path";
import { LineCounter, parseDocument } from "yaml";
import type { z } from "zod";
import { JBackupError } from "../domain/errors.js";

export interface FileProblem {
  path: string;
  line: number | null;
  message: string;
}

export interface YamlFile<Value> {
  value: Value;
  lineOf: (path: readonly PropertyKey[]) => number | null;
  /** Whether the file itself says it, as opposed to a default. */
  has: (path: readonly PropertyKey[]) => boolean;
}

export interface YamlRequest<Value> {
  file: string;
  /** What to do about a file that cannot be read. */
  hint: string;
  schema: z.ZodType<Value>;
}

export const pathText = (path: readonly PropertyKey[]): string =>
  path.reduce<string>(
    (sofar, part) =>
      typeof part === "number"
        ? `${sofar}[${part}]`
        : sofar === ""
          ? String(part)
          : `${sofar}.${String(part)}`,
    "",
  );

export function invalidFile(file: string, problems: FileProblem[], hint: string): JBackupError {
  const inOrder = problems.toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0));
  const lines = inOrder.map(({ path, line, message }) =>
    [line === null ? null : `line ${line}`, path === "" ? null : path, message]
      .filter((part) => part !== null)
      .join(": "),
  );
  const head = `${basename(file)} has ${problems.length === 1 ? "an error" : `${problems.length} errors`}`;
  return new JBackupError(
    "config_invalid",
    problems.length === 1 ? `${head}: ${lines[0]}` : `${head}:\n  ${lines.join("\n  ")}`,
    { hint, details: { file, problems } },
  );
}

/** Text to a checked value; every problem at once, each with its path and line. */
export function parseYaml<Value>(text: string, { file, hint, schema }: YamlRequest<Value>): YamlFile<Value> {
  const counter = new LineCounter();
  const document = parseDocument(text, { lineCounter: counter, prettyErrors: false });
  const lineAt = (offset: number | undefined): number | null =>
    offset === undefined ? null : counter.linePos(offset).line;
  if (document.errors.length > 0) {
    const problems = document.errors.map((error) => ({
      path: "",
      line: lineAt(error.pos[0]),
      message: `not valid YAML: ${error.message.split("\n")[0]}`,
    }));
    throw invalidFile(file, problems, hint);
  }
  const lineOf = (path: readonly PropertyKey[]): number | null => {
    for (let length = path.length; length > 0; length--) {
      const node = document.getIn(path.slice(0, length), true) as
        | { range?: [number, number, number] }
        | undefined;
      if (node?.range) return lineAt(node.range[0]);
    }
    return null;
  };
  const parsed = schema.safeParse(document.toJS() ?? {}, {
    error: (issue) => (issue.input === undefined ? "is required" : undefined),
  });
  if (!parsed.success) {
    const problems = parsed.error.issues.map((issue) => ({
      path: pathText(issue.path),
      line: lineOf(
        issue.code === "unrecognized_keys" ? [...issue.path, ...issue.keys.slice(0, 1)] : issue.path,
      ),
      message: issue.message,
    }));
    throw invalidFile(file, problems, hint);
  }
  return { value: parsed.data, lineOf, has: (path) => document.hasIn(path) };
}
