import { describe, expect, test } from "vitest";
import { type Ask, confirmName } from "../../src/cli/confirm.js";
import type { CommandContext } from "../../src/cli/context.js";
import { JBackupError } from "../../src/domain/errors.js";

const notAsked: Ask = async () => {
  throw new Error("nothing may be asked");
};

interface Given {
  name?: string;
  flag?: string;
  isInteractive?: boolean;
  ask?: Ask;
}

async function confirm({ name = "shop", flag, isInteractive = false, ask = notAsked }: Given) {
  const context = { isInteractive, signal: new AbortController().signal } as CommandContext;
  try {
    await confirmName(context, name, flag, "this restore", ask);
    return "confirmed";
  } catch (error) {
    if (!(error instanceof JBackupError)) throw error;
    return { exitCode: error.exitCode, message: error.message, hint: error.hint };
  }
}

describe("a name given with --confirm", () => {
  test.each([false, true])("is enough, on a terminal or not (%s)", async (isInteractive) => {
    expect(await confirm({ flag: "shop", isInteractive })).toBe("confirmed");
  });

  test.each(["Shop", "shop ", "", "shop_check"])('is refused when it is "%s"', async (flag) => {
    expect(await confirm({ flag, isInteractive: true })).toEqual({
      exitCode: 13,
      message: `--confirm says "${flag}", but what would be overwritten is "shop"`,
      hint: "if that is meant, give --confirm shop",
    });
  });
});

describe("without --confirm", () => {
  test("and without a terminal, the flag and the name are told", async () => {
    expect(await confirm({})).toEqual({
      exitCode: 13,
      message: 'this restore overwrites "shop" and needs its name as confirmation',
      hint: "give --confirm shop",
    });
  });

  test("a name that a shell would take apart is told in quotes", async () => {
    expect(await confirm({ name: "it's $HOME; shop" })).toMatchObject({
      hint: "give --confirm 'it'\\''s $HOME; shop'",
    });
  });

  test("the name is typed on a terminal", async () => {
    const asked: string[] = [];
    const ask: Ask = async (message) => {
      asked.push(message);
      return " shop ";
    };
    expect(await confirm({ isInteractive: true, ask })).toBe("confirmed");
    expect(asked).toEqual(["Type shop to overwrite it:"]);
  });

  test.each(["y", "yes", "", "SHOP"])('"%s" is not the name', async (typed) => {
    expect(await confirm({ isInteractive: true, ask: async () => typed })).toEqual({
      exitCode: 13,
      message: `"${typed}" is not "shop"; nothing was changed`,
      hint: "run it again and type shop, or give --confirm shop",
    });
  });
});
