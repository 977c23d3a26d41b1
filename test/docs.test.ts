import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { wordsIn } from "../src/cli/globalFlags.js";
import { buildProgram } from "../src/cli/program.js";
import { parseSettings } from "../src/config/parse.js";
import { fencesOf, PAGES, ROOT, textOf, typedIn } from "./support/docs.js";

/** A command line as the shell would cut it up; what stands behind a pipe, a redirection or a wide gap is no part of it. */
function wordsOf(line: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote = "";
  for (let at = 0; at < line.length; at++) {
    const letter = line[at] as string;
    if (quote !== "") {
      if (letter === quote) quote = "";
      else word = (word ?? "") + letter;
    } else if (/["']/.test(letter)) {
      quote = letter;
      word ??= "";
    } else if (/[|;&<>()`]/.test(letter) || line.startsWith("   ", at)) break;
    else if (letter === " ") {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else word = (word ?? "") + letter;
  }
  return word === undefined ? words : [...words, word];
}

interface Called {
  at: string;
  line: string;
}

/** Every call of jbackup on a page: in blocks, and in the running text. */
function callsOn(page: string): Called[] {
  const blocks = fencesOf(page)
    .filter(({ language }) => !["yaml", "json"].includes(language))
    .flatMap((fence) => typedIn(fence).map((line) => ({ at: `${page}:${fence.line}`, line })));
  const prose = [
    ...textOf(page)
      .replaceAll(/^```[\s\S]*?^```/gm, "")
      .matchAll(/`(jbackup [^`]+)`/g),
  ].map(([, line = ""]) => ({ at: page, line }));
  return [...blocks, ...prose].flatMap(({ at, line }) =>
    [...line.matchAll(/(?<![\w./-])jbackup (?=[a-z-])/g)].map(({ index }) => ({
      at,
      line: line.slice(index + "jbackup ".length),
    })),
  );
}

async function problemWith(line: string): Promise<string | null> {
  let called = false;
  const program = buildProgram({
    act: async () => {
      called = true;
    },
    print: () => {
      called = true;
    },
    version: "0",
    places: 100,
  });
  const words = wordsOf(line);
  try {
    await program.parseAsync(words, { from: "user" });
  } catch (error) {
    if (!called) return (error as Error).message;
  }
  return called || wordsIn(words).length === 0 ? null : "nothing was called";
}

describe.each(PAGES)("%s", (page) => {
  test("every command exists, with its flags and arguments", async () => {
    const wrong: string[] = [];
    for (const { at, line } of callsOn(page)) {
      const problem = await problemWith(line);
      if (problem !== null) wrong.push(`${at}: jbackup ${line}: ${problem}`);
    }
    expect(wrong).toEqual([]);
  });

  test("every configuration is one", () => {
    for (const fence of fencesOf(page).filter(({ language }) => language === "yaml")) {
      const part = parse(fence.lines.join("\n"));
      const whole = stringify({ database: { url: "postgresql:///shop" }, ...withStorages(part) });
      expect(() => parseSettings(whole, `${fence.page}:${fence.line}`)).not.toThrow();
    }
  });

  test("every link leads somewhere", () => {
    const broken = [...textOf(page).matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, target = ""]) => {
      if (/^https?:/.test(target)) return [];
      const [file = "", part] = target.split("#");
      const path = file === "" ? page : join(dirname(page), file);
      if (!existsSync(join(ROOT, path))) return [target];
      return part === undefined || anchorsOf(path).includes(part) ? [] : [target];
    });
    expect(broken).toEqual([]);
  });
});

/** A policy needs the storage that it is for. */
function withStorages(part: Record<string, unknown>): Record<string, unknown> {
  const named = Object.keys((part.retention as object | undefined) ?? {}).filter(
    (name) => name !== "pitrWindow",
  );
  if (named.length === 0 || part.storages !== undefined) return part;
  return { ...part, storages: named.map((name) => ({ name, kind: "local", path: `/${name}` })) };
}

const anchorsOf = (path: string): string[] =>
  [...textOf(path).matchAll(/^#+ (.*)$/gm)].map(([, title = ""]) =>
    title
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} -]/gu, "")
      .replaceAll(" ", "-"),
  );

test("commands that exist are told from those that do not", async () => {
  expect(await problemWith("list --kind full | head")).toBeNull();
  expect(await problemWith('restore latest --reason "a b"    what it does')).toBeNull();
  expect(await problemWith("lst")).toContain('no command "jbackup lst"');
  expect(await problemWith("list --knd full")).toContain("has no option --knd");
  expect(await problemWith("show a b")).toContain("takes one argument");
  expect(await problemWith("keys")).toContain("needs to know what to do");
});
