import { userInfo } from "node:os";
import { expect, test } from "vitest";
import { readEnvironment } from "../../src/config/environment.js";

test("behind sudo the records name who is at work, and PostgreSQL meets who the process is", () => {
  const { user, systemUser } = readEnvironment({ SUDO_USER: "alice" });
  expect([user, systemUser]).toEqual(["alice", userInfo().username]);
  expect(readEnvironment({}).user).toBe(userInfo().username);
});
