import { expect } from "vitest";
import type { TestSite } from "./site.js";

export interface Refusal {
  exit: number;
  message: string | RegExp;
  hint: string | RegExp | null;
}

/** Told twice alike: as a sentence with a hint on stderr, and under --json as the one document on stdout. */
export async function expectRefused(site: TestSite, args: string[], expected: Refusal): Promise<void> {
  const text = await site.run(...args);
  expect(text.stdout).toBe("");
  const said = /^Error: ([\s\S]*?)(?:\nTry: ([\s\S]*?))?\n$/m.exec(text.stderr);
  const message = said?.[1];
  const hint = said?.[2] ?? null;
  for (const [given, wanted] of [
    [message, expected.message],
    [hint, expected.hint],
  ] as const) {
    if (wanted instanceof RegExp) expect(given).toMatch(wanted);
    else expect(given ?? null).toBe(wanted);
  }
  expect(text.code).toBe(expected.exit);

  const json = await site.run(...args, "--json");
  expect(json.code).toBe(expected.exit);
  const document = JSON.parse(json.stdout);
  expect(Object.keys(document)).toEqual(["error"]);
  expect(document.error).toMatchObject({ message, hint, exitCode: expected.exit, code: expect.any(String) });
  for (const line of json.stderr.split("\n").filter((part) => part !== ""))
    expect(() => JSON.parse(line), line).not.toThrow();
}
