import { basename } from "node:path";
import { LineCounter, parseDocument } from "yaml";
import type { z } from "zod";
import { JBackupError } from "../domain/errors.js";
import { nearest } from "../domain/similar.js";

export interface FileProblem {
  path: string;
  line: number | null;
  message: string;
}

export interface KeyProblem {
  path: PropertyKey[];
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
  /** What ties keys to each other. It is shown the file as it is, also where parts of it are wrong by themselves. */
  crossCheck?: (file: unknown) => KeyProblem[];
}

const pathText = (path: readonly PropertyKey[]): string =>
  path.reduce<string>(
    (sofar, part) =>
      typeof part === "number"
        ? `${sofar}[${part}]`
        : sofar === ""
          ? String(part)
          : `${sofar}.${String(part)}`,
    "",
  );

function invalidFile(file: string, problems: FileProblem[], hint: string): JBackupError {
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

const KINDS: Record<string, string> = {
  array: "expected a list",
  object: "expected a mapping of keys to values",
  record: "expected a mapping of keys to values",
  string: "expected a text",
  number: "expected a number",
  boolean: "expected true or false",
};

/** For what a schema has no words of its own. */
export const plainly: z.core.$ZodErrorMap = (issue) => {
  if (issue.input === undefined) return "is required";
  if (issue.code === "invalid_type") return KINDS[issue.expected];
  if (issue.code === "invalid_value") return `expected ${issue.values.map(String).join(", ")}`;
  return issue.code === "too_small" && issue.origin === "array" ? "must not be empty" : undefined;
};

/** Text to a checked value; every problem at once, each with its path and line. */
export function parseYaml<Value>(
  text: string,
  { file, hint, schema, crossCheck = () => [] }: YamlRequest<Value>,
): YamlFile<Value> {
  const counter = new LineCounter();
  const document = parseDocument(text, { lineCounter: counter, prettyErrors: false });
  const lineAt = (offset: number | undefined): number | null =>
    offset === undefined ? null : counter.linePos(offset).line;
  const unread = document.errors.map((error) => ({
    path: "",
    line: lineAt(error.pos[0]),
    message: `not valid YAML: ${error.message.split("\n")[0]}`,
  }));
  // behind a key that stands there twice all can be read; behind anything else nobody knows what was meant
  if (document.errors.some(({ code }) => code !== "DUPLICATE_KEY")) throw invalidFile(file, unread, hint);
  const lineOf = (path: readonly PropertyKey[]): number | null => {
    for (let length = path.length; length > 0; length--) {
      const node = document.getIn(path.slice(0, length), true) as
        | { range?: [number, number, number] }
        | undefined;
      if (node?.range) return lineAt(node.range[0]);
    }
    return null;
  };
  const value: unknown = document.toJS() ?? {};
  const parsed = schema.safeParse(value, { error: plainly });
  const issues = parsed.error?.issues ?? [];
  const problems: FileProblem[] = [
    ...unread,
    ...issues
      .filter((issue) => document.hasIn(issue.path) || !isMisspelt(issue.path, issues))
      .map((issue) => ({
        path: pathText(issue.path),
        line: lineOf(
          issue.code === "unrecognized_keys" ? [...issue.path, ...issue.keys.slice(0, 1)] : issue.path,
        ),
        message: issue.message,
      })),
    ...crossCheck(value).map(({ path, message }) => ({ path: pathText(path), line: lineOf(path), message })),
  ];
  if (!parsed.success || problems.length > 0) throw invalidFile(file, problems, hint);
  return { value: parsed.data, lineOf, has: (path) => document.hasIn(path) };
}

/** Whether a key that is missing stands there under a name that nobody knows: that is told already. */
function isMisspelt(path: readonly PropertyKey[], issues: readonly z.core.$ZodIssue[]): boolean {
  const [key, above] = [String(path.at(-1)), pathText(path.slice(0, -1))];
  return issues.some(
    (issue) =>
      issue.code === "unrecognized_keys" &&
      pathText(issue.path) === above &&
      issue.keys.some((unknown) => nearest(unknown, [key]) !== undefined),
  );
}
