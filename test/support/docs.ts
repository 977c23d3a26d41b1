import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** What people are told to read and to type. */
export const PAGES = [
  "README.md",
  ...readdirSync(join(ROOT, "docs"))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
];

export interface Fence {
  page: string;
  line: number;
  /** What stands behind the three marks: `console run`, `yaml`, or nothing. */
  language: string;
  lines: string[];
}

export const textOf = (page: string): string => readFileSync(join(ROOT, page), "utf8");

export function fencesOf(page: string): Fence[] {
  const fences: Fence[] = [];
  let open: Fence | undefined;
  for (const [at, line] of textOf(page).split("\n").entries()) {
    const mark = /^\s*```(.*)$/.exec(line);
    if (mark === null) open?.lines.push(line);
    else if (open === undefined) open = { page, line: at + 1, language: (mark[1] ?? "").trim(), lines: [] };
    else {
      fences.push(open);
      open = undefined;
    }
  }
  if (open !== undefined) throw new Error(`${page}:${open.line}: the block is not closed`);
  return fences;
}

/** What is typed: in a transcript the lines behind a dollar sign, elsewhere every line. */
export const typedIn = ({ language, lines }: Fence): string[] =>
  language.startsWith("console")
    ? lines.flatMap((line) => (line.startsWith("$ ") ? [line.slice(2)] : []))
    : lines;

/** The blocks that are really carried out, in order. */
export const runIn = (page: string, ...marks: string[]): string[] =>
  fencesOf(page)
    .filter(({ language }) => marks.map((mark) => `console ${mark}`).includes(language))
    .flatMap(typedIn);
