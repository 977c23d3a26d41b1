import { spawnSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { completionScript } from "../../src/cli/completion.js";
import { COMMANDS } from "../../src/cli/tree.js";
import { jbackup } from "./captured.js";

/** What a real bash offers after these words. */
function offered(...words: string[]): string[] {
  const line = words.map((word) => `'${word}'`).join(" ");
  const ask = `${completionScript("bash")}
COMP_WORDS=(jbackup ${line}); COMP_CWORD=${words.length}; _jbackup; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr, status } = spawnSync("bash", ["-c", ask], { encoding: "utf8" });
  expect([status, stderr]).toEqual([0, ""]);
  return stdout.split("\n").filter((word) => word !== "");
}

describe("bash", () => {
  test.each([
    [["ke"], ["keys"]],
    [["keys", "r"], ["rotate"]],
    [
      ["backup", ""],
      [
        "full",
        "tenant",
        "wal",
        "config",
        "--config",
        "--environment-file",
        "--json",
        "--quiet",
        "--verbose",
        "--no-input",
      ],
    ],
    [
      ["list", "--s"],
      ["--status", "--since"],
    ],
    [["--config", "list", "sh"], ["show"]],
    [["list", "--status", "fai"], []],
    [["--json", "restore", "--dr"], ["--dry-run"]],
    [
      ["completion", ""],
      [
        "bash",
        "zsh",
        "fish",
        "--config",
        "--environment-file",
        "--json",
        "--quiet",
        "--verbose",
        "--no-input",
      ],
    ],
    [["help", "exit"], ["exit-codes"]],
  ])("after %j offers %j", (words, expected) => {
    expect(offered(...words)).toEqual(expected);
  });
});

test("every command and flag is offered by every shell", () => {
  for (const shell of ["bash", "zsh", "fish"] as const) {
    const script = completionScript(shell);
    for (const { usage, options } of COMMANDS) {
      for (const word of usage.split(" ").filter((part) => /^[a-z]/.test(part)))
        expect(script).toContain(word);
      for (const [flags] of options ?? [])
        expect(script).toContain(
          shell === "fish" ? `-l ${flags.split(" ")[0]?.slice(2)} ` : flags.split(" ")[0],
        );
    }
  }
});

test("the command prints the script, as a document under --json", async () => {
  expect((await jbackup(["completion", "fish"])).stdout).toBe(completionScript("fish"));
  expect(JSON.parse((await jbackup(["completion", "zsh", "--json"])).stdout)).toEqual({
    shell: "zsh",
    script: completionScript("zsh"),
  });
});
