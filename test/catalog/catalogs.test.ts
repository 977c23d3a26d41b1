import { execFile } from "node:child_process";
import { resolve } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { migrations } from "#migrations";
import { locationOf, openCatalog } from "../../src/catalog/catalogs.js";
import { parsePostgresUrl } from "../../src/catalog/postgresUrl.js";
import { firstBehind } from "../../src/catalog/queries.js";
import { systemClock } from "../../src/sys/clock.js";
import { temporaryDirectory } from "./places.js";

describe("catalog.url", () => {
  it.each([
    ["mysql://root:hunter2@db/x", "catalog.url has a form that no catalog knows (mysql:)"],
    ["/var/lib/jbackup/catalog.db", "catalog.url has a form that no catalog knows (no scheme)"],
    ["sqlite:", "catalog.url has a form that no catalog knows (sqlite:)"],
    ["", "catalog.url has a form that no catalog knows (no scheme)"],
  ])("%s is refused without quoting it", async (url, message) => {
    await expect(openCatalog(url, { clock: systemClock })).rejects.toMatchObject({
      code: "config_invalid",
      message,
      hint: "Write it as sqlite:/var/lib/jbackup/catalog.db or postgresql://user@host/database.",
    });
  });

  it("that is no URL does not show its password, not even in a cause", async () => {
    const failure: unknown = await openCatalog("postgresql://u:hunter2@h:port/db", {
      clock: systemClock,
    }).catch((error: unknown) => error);
    expect(failure).toMatchObject({
      code: "config_invalid",
      message: "catalog.url is not a valid PostgreSQL URL",
    });
    expect((failure as Error).cause).toBeUndefined();
  });

  it.each([
    ["sqlite:/var/lib/c.db", "sqlite:/var/lib/c.db"],
    ["sqlite:///var/lib/c.db", "sqlite:/var/lib/c.db"],
    ["sqlite:c.db", `sqlite:${resolve("c.db")}`],
    ["sqlite::memory:", "sqlite::memory:"],
    ["postgres://u:p%40@h:5433/db?sslmode=require&password=x", "postgresql://u@h:5433/db"],
    ["postgresql://u:p@h/db", "postgresql://u@h/db"],
    ["postgresql://u:p@/db?host=/run/pg&port=5433", "postgresql://u@/db?host=/run/pg&port=5433"],
    ["postgresql:///db?host=/run/pg&user=u", "postgresql://u@/db?host=/run/pg"],
    ["postgresql://[::1]:5432/db", "postgresql://[::1]:5432/db"],
    ["postgresql:///db", "postgresql:///db"],
  ])("%s is shown as %s", async (url, location) => {
    expect(await locationOf(url)).toBe(location);
  });

  it("means by sslmode what libpq means, unless it says otherwise", () => {
    const textOf = (url: string): string | undefined => parsePostgresUrl(url).config.connectionString;
    expect(textOf("postgresql://h/db?sslmode=require")).toBe(
      "postgresql://h/db?sslmode=require&uselibpqcompat=true",
    );
    expect(textOf("postgresql://h/db?sslmode=require&uselibpqcompat=false")).toMatch(/uselibpqcompat=false$/);
    expect(textOf("postgresql://h/db")).toBe("postgresql://h/db");
  });
});

describe("opening a catalog", () => {
  it("tells what a migration did, when asked not to do it by itself", async () => {
    const url = `sqlite:${await temporaryDirectory()}/catalog.db`;
    const catalog = await openCatalog(url, { clock: systemClock, migrate: false });
    expect(await catalog.migrate()).toEqual(Object.keys(migrations));
    expect(await catalog.migrate()).toEqual([]);
    await catalog.close();
  });

  it("of SQLite never loads the PostgreSQL driver, nor a warning", async () => {
    const url = `sqlite:${await temporaryDirectory()}/catalog.db`;
    const script = new URL("../contract/catalogProcess.mjs", import.meta.url).pathname;
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [script, url, "loaded"]);
    expect(stdout).toMatch(/node_modules\/kysely\//);
    expect(stdout).not.toMatch(/node_modules\/pg\//);
    expect(stderr).toBe("");
  });
});

describe("the end of a prefix", () => {
  it.each([
    ["ab", "ac"],
    ["a\u{10ffff}", "b"],
    ["\ud7ff", "\ue000"],
    ["\uffff", "\u{10000}"],
  ])("%j is %j", (prefix, end) => {
    expect(firstBehind(prefix)).toBe(end);
  });
});
