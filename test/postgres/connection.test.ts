import { expect, test } from "vitest";
import { Secret } from "../../src/domain/secret.js";
import { addressOf, libpqVariables } from "../../src/postgres/connection.js";

const target = (url: string) => ({ url: new Secret(url) });

test.each([
  [
    "postgresql:///shop?host=/var/run/postgresql",
    { host: "/var/run/postgresql", port: "5432", user: "me", database: "shop" },
  ],
  [
    "postgresql://app:p%40ss@db.example:6543/shop",
    { host: "db.example", port: "6543", user: "app", database: "shop" },
  ],
  [
    "postgresql://app@/we%22ird%20db%27%24%24x?host=/tmp&port=5999",
    { host: "/tmp", port: "5999", user: "app", database: "we\"ird db'$$x" },
  ],
  ["postgresql://app@host", { host: "host", port: "5432", user: "app", database: "app" }],
])("%s leads where libpq would go", (url, address) => {
  expect(addressOf(target(url), "me")).toEqual(address);
});

test("programs get the same address by variables, the password among them", () => {
  expect(libpqVariables(target("postgresql://app:p%40s%2Fs@h:1/a%24b?sslmode=require"), "me")).toMatchObject({
    PGHOST: "h",
    PGPORT: "1",
    PGUSER: "app",
    PGPASSWORD: "p@s/s",
    PGDATABASE: "a$b",
    PGSSLMODE: "require",
  });
});

test("what is no address is refused without repeating it", () => {
  expect(() => addressOf(target("postgresql://u:secret@h:port:port/%zz"), "me")).toThrow(
    /^database\.url is not a connection address: (?!.*secret)/,
  );
});

test.each([
  "garbage",
  "u:secret@h/d",
  "/var/run/secret shop",
  "host=h password=secret",
  "mysql://u:secret@h/d",
  "",
])("%j is no address, and is not looked for on a host that is not there", (text) => {
  expect(() => addressOf(target(text), "me")).toThrow(
    /^database\.url is not a connection address: it (does not begin with postgresql:\/\/|is empty)$/,
  );
});
