import { describe, expect, test } from "vitest";
import { globalFlagsIn } from "../../src/cli/globalFlags.js";
import { COMMANDS } from "../../src/cli/tree.js";
import { EXIT_CODES } from "../../src/domain/errors.js";
import { jbackup } from "./captured.js";

const pathOf = (usage: string): string[] => usage.split(" ").filter((word) => /^[a-z]/.test(word));

test("only commands of this version exist", () => {
  expect(COMMANDS.map(({ usage }) => pathOf(usage).join(" ")).sort()).toEqual(
    [
      "alerts",
      "audit check",
      "audit export",
      "audit show",
      "cleanup",
      "dr check",
      "dr list",
      "dr report",
      "dr run",
      "pin",
      "unpin",
      "verify",
      "backup config",
      "backup full",
      "backup tenant",
      "backup wal",
      "catalog migrate",
      "catalog rebuild",
      "completion",
      "config show",
      "config validate",
      "demo",
      "doctor",
      "help",
      "init",
      "keys kit",
      "keys list",
      "keys new",
      "keys rotate",
      "keys test",
      "list",
      "metrics",
      "restore",
      "restores",
      "schedule cancel",
      "schedule install",
      "schedule remove",
      "schedule run",
      "schedule show",
      "show",
      "status",
      "storages check",
      "storages harden",
      "tenants coverage",
      "tenants erase-check",
      "tenants export",
      "tenants list",
      "wal fetch",
      "wal push",
      "wal status",
    ].sort(),
  );
});

describe.each(COMMANDS)("jbackup $usage", (spec) => {
  const path = pathOf(spec.usage);

  test("shows examples first, then how it is used, then its exit codes", async () => {
    const { exitCode, stdout, stderr } = await jbackup([...path, "--help"]);
    expect([exitCode, stderr]).toEqual([0, ""]);
    const headings = stdout.match(/^(Examples|Usage|Commands|Options|Everywhere|Exit codes)(?=:)/gm);
    expect(headings).toEqual([
      "Examples",
      "Usage",
      ...(spec.options ? ["Options"] : []),
      "Everywhere",
      "Exit codes",
    ]);
    for (const [command] of spec.examples) expect(stdout).toContain(command);
    const exits = stdout.slice(stdout.indexOf("Exit codes:")).trimEnd().split("\n").slice(1);
    expect(exits.map((line) => Number.parseInt(line, 10))).toEqual(spec.exits);
  });

  test("help says the same", async () => {
    expect(await jbackup(["help", ...path])).toEqual(await jbackup([...path, "--help"]));
  });

  test("its examples call it", () => {
    expect(spec.examples.length).toBeGreaterThan(0);
    for (const [command] of spec.examples) expect(command).toContain(`jbackup ${path.join(" ")}`);
  });

  test("every flag of its examples exists", () => {
    const known = (spec.options ?? []).map(([flags]) => flags.split(" ")[0]);
    const used = spec.examples.flatMap(([command]) => command.split(" | ")[0]?.match(/--[a-z-]+/g) ?? []);
    for (const flag of used) expect([...known, "--json", "--config"]).toContain(flag);
  });

  test("has code behind it", async () => {
    expect(typeof (await spec.load()).run).toBe("function");
  });

  test("refuses an option that it does not have", async () => {
    const { exitCode, stdout, stderr } = await jbackup([...path, "--zzz"]);
    expect([exitCode, stdout]).toEqual([spec.failureExit ?? 2, ""]);
    const name = `jbackup ${path.join(" ")}`;
    expect(stderr).toBe(`Error: ${name} has no option --zzz\nTry: ${name} --help shows the options\n`);
  });
});

test("help fits a terminal of 60 columns", async () => {
  for (const { usage, examples } of COMMANDS) {
    const { stdout } = await jbackup([...pathOf(usage), "--help"], { columns: 60 });
    const copied = examples.map(([command]) => `  ${command}`);
    const tooLong = stdout.split("\n").filter((line) => line.length > 60 && !copied.includes(line));
    expect(tooLong).toEqual([]);
  }
});

test("jbackup alone shows where to begin", async () => {
  const { exitCode, stdout, stderr } = await jbackup([]);
  expect([exitCode, stderr]).toEqual([0, ""]);
  expect(stdout).toMatch(
    /^Examples:\n {2}# see the whole story on a throwaway PostgreSQL\n {2}jbackup demo\n/,
  );
  expect(stdout).toContain("\n  backup      back up the database\n");
  expect(await jbackup(["--help"])).toEqual({ exitCode, stdout, stderr });
});

test("the exit codes are explained from the table that the program uses", async () => {
  const { stdout } = await jbackup(["help", "exit-codes"]);
  const lines = stdout.trimEnd().split("\n");
  expect(lines.map((line) => /^ {2}(\d+) +(.*)$/.exec(line)?.slice(1))).toEqual(Object.entries(EXIT_CODES));
  const { stdout: json } = await jbackup(["help", "exit-codes", "--json"]);
  expect(JSON.parse(json)).toEqual(
    Object.entries(EXIT_CODES).map(([code, meaning]) => ({ exitCode: Number(code), meaning })),
  );
});

describe("a command line that means nothing", () => {
  test.each([
    ["lst", 'there is no command "jbackup lst"; did you mean "jbackup list"?', "jbackup list --help"],
    ["xyzzy", 'there is no command "jbackup xyzzy"', "jbackup --help lists the commands"],
    [
      "keys rotat",
      'there is no command "jbackup keys rotat"; did you mean "jbackup keys rotate"?',
      "jbackup keys rotate --help",
    ],
    [
      "help confg",
      'there is no command "jbackup confg"; did you mean "jbackup config"?',
      "jbackup config --help",
    ],
    [
      "keys",
      "jbackup keys needs to know what to do",
      "jbackup keys new, jbackup keys list, jbackup keys test, jbackup keys rotate, jbackup keys kit",
    ],
    [
      "list --limt 5",
      "jbackup list has no option --limt; did you mean --limit?",
      "jbackup list --help shows the options",
    ],
    [
      "list --jsn",
      "jbackup list has no option --jsn; did you mean --json?",
      "jbackup list --help shows the options",
    ],
    ["--nope", "jbackup has no option --nope", "jbackup --help shows the options"],
    ["list --limit", "--limit needs a value", "jbackup list --help shows how it is used"],
    ["show", "jbackup show needs BACKUP", "jbackup show --help shows how it is used"],
    [
      "show a b",
      'jbackup show takes one argument, but was given "a", "b"',
      "jbackup show --help shows how it is used",
    ],
    ["list --limit 0", '--limit cannot be "0"', "give a whole number from 1 to 100000"],
    [
      "list --status complete",
      '--status cannot be "complete"; did you mean "completed"?',
      "choose one of in_progress, completed, verified, failed, interrupted",
    ],
    [
      "list --since 2026-11-20T02:00",
      "--since 2026-11-20T02:00 has no time zone",
      "write 2026-11-20T02:00Z for UTC, or add an offset such as +01:00",
    ],
    [
      "list --until yesterday",
      '--until cannot be "yesterday"',
      "give a day (2026-11-20), a time with zone (2026-11-20T02:00:00Z), or a span back (7d, 2h)",
    ],
    [
      "backup full --logical --physical",
      "--logical and --physical exclude each other",
      "leave both out for a physical backup",
    ],
    [
      "backup full --logical --fresh",
      "--fresh works with physical backups only",
      "leave it out: a logical backup is always whole",
    ],
    [
      "restore --mode pitr --reason x",
      "--mode pitr needs --to",
      "give a time with its zone (2026-11-20T13:59:30Z), an LSN, the name of a restore point, or latest",
    ],
    [
      "restore",
      "--reason is missing: every restore records why it was made",
      'add --reason "why", or look first with --dry-run',
    ],
    ["completion tcsh", 'there is no completion for "tcsh"', "choose one of bash, zsh, fish"],
  ])("%s", async (line, message, hint) => {
    const argv = line.split(" ");
    expect(await jbackup(argv)).toEqual({
      exitCode: 2,
      stdout: "",
      stderr: `Error: ${message}\nTry: ${hint}\n`,
    });
    const asJson = await jbackup(["--json", ...argv]);
    expect([asJson.exitCode, asJson.stderr]).toEqual([2, ""]);
    expect(asJson.stdout).toBe(
      `${JSON.stringify({ error: { code: "usage", message, hint, exitCode: 2 } }, null, 2)}\n`,
    );
  });
});

describe("global flags", () => {
  test.each([
    ["--json list --limit 0"],
    ["list --json --limit 0"],
    ["list --limit 0 --json"],
    ["--json --quiet keys --verbose list --no-input --config f extra"],
  ])("stand anywhere: %s", async (line) => {
    const { stdout } = await jbackup(line.split(" "));
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: "usage", exitCode: 2 } });
  });

  test.each([
    ["backup full --note --json --quiet", { json: false, quiet: true }],
    ["restore --reason --no-input", { noInput: false }],
    ["list -- --json", { json: false }],
    ["--config=a list --config b", { config: "b" }],
    ["wal push --environment-file /etc/j.env x --json", { envFile: "/etc/j.env", json: true }],
    ["list --config --json", { config: "--json", json: false }],
  ])("are told from values: %s", (line, expected) => {
    expect(globalFlagsIn(line.split(" "))).toMatchObject(expected);
  });

  test("reach the opener of the site", async () => {
    let asked: string | undefined;
    const openSite = async ({ configFile }: { configFile: string | undefined }): Promise<never> => {
      asked = configFile;
      throw new Error("far enough");
    };
    for (const line of ["--config a.yaml list", "list --config a.yaml", "list --config=a.yaml"]) {
      asked = undefined;
      await jbackup(line.split(" "), { openSite });
      expect(asked).toBe("a.yaml");
    }
  });
});

test("--json makes documents of help and version too", async () => {
  expect(JSON.parse((await jbackup(["--version", "--json"])).stdout)).toEqual({ version: "1.2.3" });
  expect((await jbackup(["--version"])).stdout).toBe("1.2.3\n");
  const { stdout: text } = await jbackup(["list", "--help"]);
  expect(JSON.parse((await jbackup(["list", "--help", "--json"])).stdout)).toEqual({ help: text });
  expect(JSON.parse((await jbackup(["help", "list", "--json"])).stdout)).toEqual({ help: text });
});
