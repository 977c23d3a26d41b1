import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { killAt, signalAt } from "../support/kill.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { expectRefused } from "../support/refusal.js";
import { leftovers, openFolder, ownTemporary, statuses, stopOn } from "../support/runbooks.js";
import { makeSite, type TestSite } from "../support/site.js";
import { DRILL_STEPS } from "../support/steps.js";

let server: TestPostgres;
let site: TestSite;
let folder: string;
let web: Server;
let port: number;

const write = (name: string, text: string): void =>
  writeFileSync(join(folder, "books", `${name}.yaml`), text);

/** One step of every kind that leaves a trace, each adding a line to a file, so that what was done twice is seen. */
const REPRESENTATIVE = (): string => `
name: every-kind
title: One step of every kind
symptoms: [a test]
prose: For tests.
budget: 1h
variables:
  directory: {about: where, drill: "\${scratch}/data"}
steps:
  - {name: look, purpose: p, budget: 1m, needs: [], check: {path: "\${directory}", is: vacant}, drill: same}
  - {name: agree, purpose: p, budget: 1m, needs: [], confirm: {text: sure, type: shop}}
  - name: once
    purpose: p
    budget: 1m
    needs: [agree]
    shell: "echo once >> \${folder}/trace"
    undo: {shell: "echo undone >> \${folder}/trace"}
  - {name: bring, purpose: p, budget: 10m, needs: [look, agree], restore: [latest, --into-dir, "\${directory}"], drill: same}
  - {name: row, purpose: p, budget: 1m, needs: [once], repeatable: true, sql: {query: "insert into public.marks select 1 where not exists (select from public.marks) returning 'new'"}}
  - {name: seen, purpose: p, budget: 1m, sql: {query: "select count(*)::text from public.marks", expect: 1}, repeatable: true}
  - {name: page, purpose: p, budget: 1m, needs: [agree], http: {url: "http://127.0.0.1:${port}/", contains: well}}
  - {name: listed, purpose: p, budget: 1m, needs: [bring], jbackup: list, repeatable: true, drill: same}
  - {name: stored, purpose: p, budget: 5m, needs: [bring], verify: [latest, --level, stored], drill: same}
  - {name: hand, purpose: p, budget: 1m, needs: [seen, page], manual: {text: t, look: l}}
  - {name: tell, purpose: p, budget: 1m, needs: [hand, listed, stored], notify: done}
`;
const STEPS = ["look", "agree", "once", "bring", "row", "seen", "page", "listed", "stored", "hand", "tell"];

beforeAll(async () => {
  folder = openFolder();
  mkdirSync(join(folder, "books"));
  web = createServer((_request, response) => response.end("all is well"));
  await new Promise<void>((done) => web.listen(0, "127.0.0.1", done));
  port = (web.address() as AddressInfo).port;
  server = await startPostgres({ settings: { wal_level: "replica" } });
  await query(server.url(), "create database shop");
  await query(server.url("shop"), "create table marks (id int)");
  site = await makeSite({
    url: server.url("shop"),

    more: [`runbooks: [${join(folder, "books")}]`],
  });
  ownTemporary(site, folder);
  write("every-kind", REPRESENTATIVE());
  await site.json(["backup", "full"]);
});

afterAll(async () => {
  web?.close();
  await site?.remove();
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

let turn = 0;
const fresh = (): string => join(folder, `data-${++turn}`);
const flags = ["--confirm", "shop", "--yes"];
const traceOf = (answer: { report: string }): string =>
  readFileSync(answer.report.replace("report.md", "trace"), "utf8");

const decisionsOf = (answer: { report: string }): { step: string; answer: string }[] =>
  readFileSync(answer.report.replace("report.md", "journal.jsonl"), "utf8")
    .split("\n")
    .filter((line) => line.includes('"decision"'))
    .map((line) => JSON.parse(line));

describe("a run that is killed in the middle of the step", () => {
  test.each(STEPS)("%s is finished by --resume, with nothing done twice that must not be", async (step) => {
    const directory = fresh();
    await query(server.url("shop"), "truncate marks");
    const args = ["dr", "run", "every-kind", "--set", `directory=${directory}`, ...flags];
    await killAt(site, `dr:${step}:${turn % 2 === 0 ? "started" : "acted"}`, args);
    const isTraced = step === "once";
    if (isTraced) {
      // nobody knows whether the script ran: without somebody to ask, nothing is guessed
      await expectRefused(site, ["dr", "run", "every-kind", "--resume", "--confirm", "shop"], {
        exit: 13,
        message:
          /^step once needs a decision: step once had begun when the run ended; nobody knows whether it was done$/,
        hint: /--yes/,
      });
    }
    const answer = await site.json(["dr", "run", "--resume", ...flags]);
    expect(answer).toMatchObject({ runbook: "every-kind", status: "succeeded" });
    expect(statuses(answer)).toEqual(Object.fromEntries(STEPS.map((name) => [name, "done"])));
    // done again only where somebody decided so: it was under way, or ran beside the step that was under way
    const again = decisionsOf(answer).filter(
      ({ step: of, answer: said }) => of === "once" && said === "again",
    );
    expect(again.length).toBeLessThanOrEqual(1);
    if (!["once", "bring", "page"].includes(step)) expect(again).toEqual([]);
    const times = traceOf(answer).split("once\n").length - 1;
    expect(times).toBeGreaterThanOrEqual(1);
    expect(times).toBeLessThanOrEqual(1 + again.length);
    expect(await query(server.url("shop"), "select count(*)::text as many from marks")).toEqual([
      { many: "1" },
    ]);
    const restores = await site.json(["restores"]);
    const ofRun = restores.filter(
      ({ reason, status }: { reason: string; status: string }) =>
        reason.includes(answer.id) && status === "completed",
    );
    expect(ofRun).toHaveLength(1);
    rmSync(directory, { recursive: true, force: true });
  });
});

test("a drill that is killed goes on with --resume, and leaves nothing", async () => {
  await killAt(site, "dr:bring:acted", ["dr", "run", "every-kind", "--drill"]);
  expect(leftovers(site)).toHaveLength(1);
  const answer = await site.json(["dr", "run", "--resume"]);
  expect(answer).toMatchObject({ drill: true, status: "succeeded" });
  expect(leftovers(site)).toEqual([]);
});

test.each(DRILL_STEPS)(
  "a drill that is killed at %s leaves a folder, which the next drill removes",
  async (step) => {
    write(
      "short",
      "name: short\ntitle: t\nsymptoms: [s]\nprose: p\nbudget: 1h\nsteps:\n  - {name: a, purpose: p, budget: 1m, drill: same, repeatable: true, jbackup: list}\n",
    );
    await killAt(site, step, ["dr", "run", "short", "--drill"]);
    expect(leftovers(site)).toHaveLength(1);
    expect(await site.json(["dr", "run", "short", "--drill"])).toMatchObject({ status: "succeeded" });
    expect(leftovers(site)).toEqual([]);
    rmSync(join(folder, "books", "short.yaml"));
  },
);

test("a drill that is interrupted leaves nothing", async () => {
  const ran = await signalAt(site, "dr:bring:started", "SIGTERM", ["dr", "run", "every-kind", "--drill"]);
  expect(ran.code).toBe(143);
  expect(leftovers(site)).toEqual([]);
  await expectRefused(site, ["dr", "run", "--resume"], {
    exit: 10,
    message: "there is no unfinished run",
    hint: "begin one with jbackup dr run RUNBOOK",
  });
});

test("a runbook that changed meanwhile is not gone on with, and the run can be aborted with its own", async () => {
  const directory = fresh();
  await killAt(site, "dr:bring:started", [
    "dr",
    "run",
    "every-kind",
    "--set",
    `directory=${directory}`,
    ...flags,
  ]);
  write("every-kind", REPRESENTATIVE().replace("For tests.", "For other tests."));
  await expectRefused(site, ["dr", "run", "every-kind", "--resume", ...flags], {
    exit: 2,
    message: /^the runbook every-kind has changed since run .* began with it$/,
    hint: /^put .*runbook\.yaml back in place of .*every-kind\.yaml, or end the run with jbackup dr run every-kind --abort$/,
  });
  const aborted = await site.json(["dr", "run", "--abort"]);
  expect(aborted.status).toBe("aborted");
  expect(traceOf(aborted)).toBe("once\nundone\n");
  await stopOn(directory, server.binDirectory);
});

describe("a drill cannot leave its own ground", () => {
  const attempt = (name: string, steps: string): void =>
    write(
      name,
      `name: ${name}\ntitle: t\nsymptoms: [s]\nprose: p\nbudget: 1h\nvariables: {target: {about: t, default: ok}}\nsteps:\n${steps}`,
    );

  test.each([
    [
      "shell",
      `shell: "echo bad >> /tmp/bad"`,
      "a shell script can reach anything: nothing would hold it back in a drill",
    ],
    [
      "restore",
      "restore: [latest, --into-dir, /tmp/elsewhere]",
      "it would write into /tmp/elsewhere, outside the drill's folder",
    ],
    [
      "config",
      "jbackup: [list, --config, /etc/jbackup/jbackup.yaml]",
      "it names another configuration, and with it another database",
    ],
    ["backup", "jbackup: backup full", "jbackup backup full is none of the commands that change nothing"],
  ])("by %s", async (name, action, why) => {
    attempt(
      `try-${name}`,
      `  - {name: a, purpose: p, budget: 1m, drill: same, repeatable: true, ${action}}\n`,
    );
    const { stdout, code } = await site.run("dr", "run", `try-${name}`, "--drill", "--json");
    expect([code, JSON.parse(stdout).error.message]).toEqual([
      2,
      `the runbook try-${name} cannot be run: step a: ${name === "config" || name === "backup" ? "jbackup" : name}: not in a drill: ${why}`,
    ]);
    rmSync(join(folder, "books", `try-${name}.yaml`));
    expect(leftovers(site)).toEqual([]);
  });

  test("by what a variable is set to", async () => {
    attempt(
      "try-set",
      `  - {name: a, purpose: p, budget: 1m, drill: {restore: [latest, --into-dir, "\${scratch}/\${target}"]}, check: {database: reachable}}\n`,
    );
    const outside = `../../${folder.slice(1)}/out`;
    const { stdout, code } = await site.run(
      "dr",
      "run",
      "try-set",
      "--drill",
      "--set",
      `target=${outside}`,
      "--json",
    );
    expect(code).toBe(14);
    expect(JSON.parse(stdout).error.message).toContain("outside the drill's folder");
    rmSync(join(folder, "books", "try-set.yaml"));
    expect(existsSync(join(folder, "out"))).toBe(false);
  });

  test("its SQL reaches only its own server, and never the production one", async () => {
    attempt(
      "try-sql",
      `  - {name: a, purpose: p, budget: 1m, drill: same, sql: {query: "drop table public.marks"}}\n`,
    );
    const ran = await site.json(["dr", "run", "try-sql", "--drill"], [4]);
    expect(ran).toMatchObject({ status: "failed", error: { code: "postgres_unreachable" } });
    expect(ran.error.message).toContain("jbackup-drill-");
    expect(await query(server.url("shop"), "select to_regclass('marks')::text as name")).toEqual([
      { name: "marks" },
    ]);
    expect(await site.json(["alerts"])).toContainEqual(
      expect.objectContaining({ type: "RESTORE_FAILURE", fingerprint: "dr:failed:try-sql" }),
    );
    rmSync(join(folder, "books", "try-sql.yaml"));
  });
});

describe("bad input", () => {
  test("is refused before anything begins", async () => {
    write("every-kind", REPRESENTATIVE());
    await expectRefused(site, ["dr", "run", "server-lots", "--drill"], {
      exit: 10,
      message: 'there is no runbook "server-lots"; did you mean "server-lost"?',
      hint: /^there are catalog-lost, .*server-lost, .*: jbackup dr list tells when each is the right one$/,
    });
    await expectRefused(site, ["dr", "run"], {
      exit: 2,
      message: "which runbook is not said",
      hint: /^name one of .*server-lost.*: jbackup dr list tells when each is the right one$/,
    });
    await expectRefused(site, ["dr", "run", "every-kind", "--set", "directory=/tmp/x"], {
      exit: 13,
      message:
        "this runbook overwrites shop and has steps that are done by hand (hand), and there is no terminal to ask at",
      hint: "give --confirm shop --yes",
    });
    await expectRefused(site, ["dr", "run", "every-kind", ...flags], {
      exit: 2,
      message: "the runbook every-kind needs directory (where)",
      hint: "give --set directory=VALUE",
    });
    await expectRefused(site, ["dr", "run", "every-kind", "--set", "directry=/tmp/x", ...flags], {
      exit: 2,
      message: 'the runbook every-kind has no variable "directry"; did you mean "directory"?',
      hint: "its variables are directory",
    });
    await expectRefused(site, ["dr", "run", "every-kind", "--incident-at", "2999-01-01", ...flags], {
      exit: 2,
      message: "--incident-at is in the future",
      hint: "give the time since when the business is down, or leave it out",
    });
    await expectRefused(site, ["dr", "run", "--resume", "--abort"], {
      exit: 2,
      message: "--resume and --abort exclude each other",
      hint: "leave one of them out",
    });
    await expectRefused(site, ["dr", "report", "nope"], {
      exit: 10,
      message: 'there is no run "nope"',
      hint: "jbackup dr list shows when each runbook was run",
    });
  });

  test("an objective that is missed ends with 15 and an alert", async () => {
    const directory = fresh();
    const args = [
      "dr",
      "run",
      "every-kind",
      "--incident-at",
      "2h",
      "--set",
      `directory=${directory}`,
      ...flags,
    ];
    const answer = await site.json(args, [15]);
    expect(answer.rtoMs).toBeGreaterThan(7_200_000);
    expect(await site.json(["alerts"])).toContainEqual(
      expect.objectContaining({
        fingerprint: "dr:objective:every-kind",
        message: "the recovery by every-kind missed the objective (RTO)",
      }),
    );
  });

  test("dr check names what is wrong with a runbook, and the others go on working", async () => {
    write(
      "broken",
      "name: broken\ntitle: t\nsymptoms: [s]\nprose: p\nbudget: 1m\nsteps:\n  - {name: a, purpose: p, budget: 5m, needs: [b], shell: ls}\n  - {name: b, purpose: p, budget: 5m, shell: ls}\n",
    );
    write("worse", "name: worse\nsteps: [{name: a, purpose: p, teleport: x}]\n");
    const checked = await site.json(["dr", "check"], [2]);
    const problems = Object.fromEntries(
      checked.map(({ file, problems: found }: { file: string; problems: { message: string }[] }) => [
        file.slice(file.lastIndexOf("/") + 1),
        found.map(({ message }) => message),
      ]),
    );
    expect(problems["broken.yaml"]).toEqual(["steps wait for each other: a needs b needs a"]);
    expect(problems["worse.yaml"]).toContain(
      'unknown step kind "teleport"; kinds are check, confirm, restore, start, verify, sql, shell, http, notify, manual, jbackup',
    );
    expect(problems["worse.yaml"]).toContain("step a has no budget: how long it may take, such as 5m");
    expect((await site.json(["dr", "list"])).map(({ name }: { name: string }) => name)).toContain(
      "server-lost",
    );
    for (const name of ["broken", "worse"]) rmSync(join(folder, "books", `${name}.yaml`));
  });
});
