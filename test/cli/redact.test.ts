import fc from "fast-check";
import { expect, test } from "vitest";
import { Redactor } from "../../src/cli/redact.js";
import { captureOutput } from "./captured.js";

const redactorOf = (...secrets: string[]): Redactor => {
  const redactor = new Redactor();
  for (const secret of secrets) redactor.add(secret);
  return redactor;
};

const anySecret = fc
  .string({ unit: "grapheme", minLength: 4, maxLength: 30 })
  .filter((text) => text.trim().length >= 4);
/** Few letters: secrets that overlap, contain each other, and are spelt by what stands around them. */
const anyTwistedSecret = fc.string({ unit: fc.constantFrom("a", "b", "*"), minLength: 4, maxLength: 8 });

const formsOf = (secret: string): string[] => [
  secret,
  encodeURIComponent(secret),
  encodeURIComponent(secret).replace(/%../g, (code) => code.toLowerCase()),
  JSON.stringify(secret).slice(1, -1),
  Object.assign(new URL("postgresql://user@host/db"), { password: secret }).password,
];

test("no form of a secret leaves, whatever stands around it", () => {
  fc.assert(
    fc.property(
      fc.array(anySecret, { minLength: 1, maxLength: 4 }),
      fc.string(),
      fc.string(),
      (secrets, before, after) => {
        const redactor = redactorOf(...secrets);
        for (const form of secrets.flatMap(formsOf).filter((text) => text.length >= 4))
          expect(redactor.clean(before + form + after)).not.toContain(form);
      },
    ),
  );
});

test("secrets that overlap or spell each other leave nothing either", () => {
  fc.assert(
    fc.property(
      fc.array(anyTwistedSecret, { minLength: 1, maxLength: 5 }),
      fc.string({ unit: fc.constantFrom("a", "b", "*"), maxLength: 40 }),
      (secrets, text) => {
        const cleaned = redactorOf(...secrets).clean(text);
        for (const secret of secrets) expect(cleaned).not.toContain(secret);
      },
    ),
  );
});

test("text without a secret stays as it is", () => {
  fc.assert(
    fc.property(anySecret, fc.string(), (secret, text) => {
      fc.pre(formsOf(secret).every((form) => !text.toLowerCase().includes(form.toLowerCase())));
      fc.pre(
        !text.includes(secret.trim()) && !text.includes(encodeURIComponent(secret).replaceAll("%20", "+")),
      );
      expect(redactorOf(secret).clean(text)).toBe(text);
    }),
  );
});

test("pieces of two overlapping secrets are blanked as one", () => {
  expect(redactorOf("abcd", "cdef").clean("<abcdef>")).toBe("<***>");
  expect(redactorOf("abcd", "abcdefgh").clean("abcdefgh abcd")).toBe("*** ***");
});

test("a secret of several lines is blanked line by line too", () => {
  const redactor = redactorOf("first line\nsecond line\n");
  expect(redactor.clean("it says second line here")).toBe("it says *** here");
});

test("what is shorter than four characters is no secret", () => {
  expect(redactorOf("abc", "  x ", "").clean("abc x and  x ")).toBe("abc x and  x ");
});

test("a document stays JSON of the same shape, whatever the secrets are", () => {
  const json = fc.jsonValue({ maxDepth: 3 });
  const wicked = fc.oneof(anySecret, fc.constantFrom("null", "true", '": "', "  {\n", '",\n'));
  fc.assert(
    fc.property(json, fc.array(wicked, { maxLength: 3 }), (value, secrets) => {
      const { output, stdout } = captureOutput({ json: true });
      for (const secret of secrets) output.secret(secret);
      output.answer({ value, items: secrets }, "");
      const document = JSON.parse(stdout.text);
      expect(Object.keys(document)).toEqual(["value", "items"]);
      for (const shown of document.items)
        expect(secrets.filter((secret) => secret.trim().length >= 4 && shown.includes(secret))).toEqual([]);
    }),
  );
});

test("every way out is closed to a secret", async () => {
  const secret = 'p"ä ss\\word';
  for (const json of [false, true]) {
    const { output, stdout, stderr, clock } = captureOutput({ json, verbose: true });
    output.secret(secret);
    const said = `before ${secret} and ${encodeURIComponent(secret)} after`;
    const { JBackupError } = await import("../../src/domain/errors.js");
    output.report.info(said);
    output.report.warn(said);
    output.report.progress({ task: said, done: 0, total: 10, unit: "bytes", extra: said });
    clock.ms = 60_000;
    output.report.progress({ task: said, done: 5, total: 10, unit: "bytes", extra: said });
    output.say(said);
    output.answer({ note: said, [said]: 1 }, said);
    output.fail(
      new JBackupError("failed", said, { hint: said, details: { said }, cause: new Error(said) }),
      new Error(said),
    );
    const all = stdout.text + stderr.text;
    for (const form of formsOf(secret)) expect(all).not.toContain(form);
    expect(all.match(/before \*\*\* and \*\*\* after/g)?.length).toBeGreaterThanOrEqual(json ? 8 : 8);
  }
});

test("the contract's own words are not blanked by a password that equals one", async () => {
  const { JBackupError } = await import("../../src/domain/errors.js");
  const { output, stdout } = captureOutput({ json: true });
  for (const secret of ["postgres", "error", "message"]) output.secret(secret);
  output.fail(new JBackupError("postgres_denied", "postgres refused the password"));
  expect(JSON.parse(stdout.text)).toEqual({
    error: { code: "postgres_denied", message: "*** refused the password", hint: null, exitCode: 1 },
  });
});
