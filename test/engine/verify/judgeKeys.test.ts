import { describe, expect, it } from "vitest";
import type { Manifest } from "../../../src/domain/manifest.js";
import type { Opens } from "../../../src/engine/provedKeys.js";
import { judgeKeys } from "../../../src/engine/verify/judgeKeys.js";

type State = Manifest["keysAre"];

const copy = (name: string, keysAre: State, keysDigest: string, day = 1) => ({
  name,
  manifest: { keysAre, keysDigest, keysSince: keysAre === "signed" ? `2026-12-0${day}T00:00:00.5Z` : null },
});

/** Who is right and what is said of the others; what opens is told by digest. */
async function judged(copies: ReturnType<typeof copy>[], opening: Record<string, Opens> | null = null) {
  const { right, wrong } = await judgeKeys(copies, async ({ manifest }) => {
    if (opening === null) throw new Error("no key is needed for this");
    return opening[manifest.keysDigest] ?? "unknown";
  });
  return [right?.name ?? null, ...[...wrong].map(([{ name }, problem]) => `${name} ${problem}`)];
}

const changed = "has keys that were changed after they were signed";

describe("the keys of several copies", () => {
  it("are right when they are the same, signed or not, and nobody's private key is needed to say so", async () => {
    expect(await judged([copy("one", "signed", "a"), copy("two", "signed", "a")])).toEqual(["one"]);
    expect(await judged([copy("one", "unsigned", "a"), copy("two", "unsigned", "a")])).toEqual(["one"]);
    expect(await judged([])).toEqual([null]);
  });

  it("that are signed are right beside any others, however many those are", async () => {
    const others = [
      copy("one", "changed", "b"),
      copy("two", "unsigned", "b"),
      copy("three", "unsigned", "a"),
    ];
    expect(await judged([...others, copy("four", "signed", "a")])).toEqual([
      "four",
      `one ${changed}`,
      "two has other keys than those that are signed in storage four",
      "three has lost the signature of its keys",
    ]);
  });

  it("that were signed last are right: a rotation may not have come everywhere", async () => {
    expect(await judged([copy("one", "signed", "old", 1), copy("two", "signed", "new", 2)])).toEqual([
      "two",
      "one has older keys than storage two: a rotation did not get here, or somebody put them back",
    ]);
  });

  it("without signatures are right when they open here and no others do", async () => {
    const copies = [
      copy("one", "unsigned", "bad"),
      copy("two", "unsigned", "good"),
      copy("three", "unsigned", "bad"),
    ];
    for (const bad of ["no", "unknown"] as const)
      expect(await judged(copies, { bad, good: "yes" })).toEqual([
        "two",
        "one has keys that do not open it, and those in storage two do",
        "three has keys that do not open it, and those in storage two do",
      ]);
  });

  it.each<[string, Record<string, Opens>]>([
    ["both open", { a: "yes", b: "yes" }],
    ["neither is known to open", {}],
    ["one does not open and the other is not known to", { a: "no", b: "unknown" }],
  ])("without signatures are right nowhere when %s: both are named", async (_what, opening) => {
    const advice =
      "and nothing here tells which are right: jbackup keys rotate, where all private keys are, seals them anew";
    expect(await judged([copy("one", "unsigned", "a"), copy("two", "unsigned", "b")], opening)).toEqual([
      null,
      `one has other keys than storage two, ${advice}`,
      `two has other keys than storage one, ${advice}`,
    ]);
  });

  it("that were all changed are right nowhere", async () => {
    expect(await judged([copy("one", "changed", "a"), copy("two", "changed", "a")])).toEqual([
      null,
      `one ${changed}`,
      `two ${changed}`,
    ]);
  });
});
