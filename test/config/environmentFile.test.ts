import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { takeEnvironmentFile } from "../../src/config/environmentFile.js";
import { variablesIn } from "../../src/domain/environmentFile.js";

// what systemd 252 makes of the same lines
test.each([
  ["A=1\nB = two words \n\n# C=3\n; D=4\nE=", { A: "1", B: "two words", E: "" }],
  ["A=$HOME `id` $(id) # no comment", { A: "$HOME `id` $(id) # no comment" }],
  [`A="x y"\nB='it "is"'\nC='a'"b" c`, { A: "x y", B: 'it "is"', C: "abc" }],
  [`A="q\\" \\\\ \\$ \\n"\nB=a\\b\\\nc\nD='\\'`, { A: 'q" \\ $ \\n', B: "abc", D: "\\" }],
  [
    "A=a'b\"c\nB='two\nlines'\r\nno line\nexport C=1\n1X=2\n=3\nD=4\r",
    { A: "a'b\"c", B: "two\nlines", D: "4" },
  ],
])("%j is read as systemd reads it", (text, expected) => {
  expect(variablesIn(text)).toEqual(expected);
});

test("a file that is not there sets nothing, and one that cannot be read is named", () => {
  const folder = mkdtempSync(join(tmpdir(), "jbackup-env-"));
  try {
    const [file, variables] = [join(folder, "jbackup.env"), { A: "old", B: "kept" }];
    takeEnvironmentFile(file, variables);
    expect(variables).toEqual({ A: "old", B: "kept" });
    writeFileSync(file, "A=new\n");
    takeEnvironmentFile(file, variables);
    expect(variables).toEqual({ A: "new", B: "kept" });
    mkdirSync(join(folder, "d"));
    expect(() => takeEnvironmentFile(join(folder, "d"), variables)).toThrow(
      `cannot read ${join(folder, "d")}`,
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
