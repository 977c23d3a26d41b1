import { expect, test } from "vitest";
import { holderText, watchWaits } from "../../src/postgres/waiting.js";

test.each([
  [
    { pid: "7", name: "shop", state: "active", seconds: "12" },
    "session 7 (application shop, active, its query began 12 s ago)",
  ],
  [{ pid: "7", name: "", state: null, seconds: null }, "session 7"],
  [{ pid: "0", name: null, state: null, seconds: null }, "a prepared transaction"],
])("%j is told", (holder, text) => expect(holderText(holder)).toBe(text));

test("what waits for nobody, or not for long, says nothing and opens nothing", async () => {
  const stop = watchWaits({
    pid: "1",
    observe: async () => {
      throw new Error("nobody should look");
    },
    tell: (text) => {
      throw new Error(text);
    },
  });
  await stop();
});
