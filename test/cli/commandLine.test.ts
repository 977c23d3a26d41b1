import { expect, test } from "vitest";
import { commandLine } from "../../src/cli/wizards/commandLine.js";

test("answers become the command that means the same, safe to paste into a shell", () => {
  expect(
    commandLine("restore", ["019ac"], {
      mode: "pitr",
      to: "2026-11-20T13:59:30Z",
      intoDb: "shop_then",
      tables: ["app.sales", 'app."Odd $name"'],
      start: false,
      delta: true,
      reason: "it's late; rm -rf /",
    }),
  ).toBe(
    `jbackup restore 019ac --mode pitr --to 2026-11-20T13:59:30Z --into-db shop_then --tables app.sales 'app."Odd $name"' --delta --reason 'it'\\''s late; rm -rf /'`,
  );
});
