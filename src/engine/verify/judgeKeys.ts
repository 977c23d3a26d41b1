import type { Manifest } from "../../domain/manifest.js";
import type { Opens } from "../provedKeys.js";

/** One storage's copy of the same signed body. */
export interface KeysCopy {
  name: string;
  manifest: Pick<Manifest, "keysAre" | "keysSince" | "keysDigest">;
}

export interface JudgedKeys<One> {
  /** Null where nothing here tells which keys are right. */
  right: One | null;
  /** The others, and a sentence part each. */
  wrong: Map<One, string>;
}

/**
 * Which of the copies' keys are right. Those that were signed last are; where none are signed, those that open the backup here.
 * The body's signature says nothing of them, and a majority may be one mistake that was copied.
 */
export async function judgeKeys<One extends KeysCopy>(
  copies: One[],
  opens: (copy: One) => Promise<Opens>,
): Promise<JudgedKeys<One>> {
  const wrong = new Map<One, string>();
  for (const copy of copies)
    if (copy.manifest.keysAre === "changed")
      wrong.set(copy, "has keys that were changed after they were signed");
  const sound = copies.filter((copy) => !wrong.has(copy));
  const [last] = sound
    .filter(({ manifest }) => manifest.keysAre === "signed")
    .toSorted((a, b) => sinceMs(b) - sinceMs(a));
  if (last !== undefined) {
    for (const copy of sound) {
      const problem = besideSigned(copy, last);
      if (problem !== null) wrong.set(copy, problem);
    }
    return { right: last, wrong };
  }
  const [first] = sound;
  if (first === undefined) return { right: null, wrong };
  if (sound.every((copy) => isAlike(copy, first))) return { right: first, wrong };
  return { right: await judgeUnsigned(sound, opens, wrong), wrong };
}

const sinceMs = ({ manifest }: KeysCopy): number => Date.parse(manifest.keysSince ?? "");

const isAlike = (a: KeysCopy, b: KeysCopy): boolean => a.manifest.keysDigest === b.manifest.keysDigest;

function besideSigned(copy: KeysCopy, last: KeysCopy): string | null {
  const isSigned = copy.manifest.keysAre === "signed";
  if (isAlike(copy, last)) return isSigned ? null : "has lost the signature of its keys";
  return isSigned
    ? `has older keys than storage ${last.name}: a rotation did not get here, or somebody put them back`
    : `has other keys than those that are signed in storage ${last.name}`;
}

async function judgeUnsigned<One extends KeysCopy>(
  copies: One[],
  opens: (copy: One) => Promise<Opens>,
  wrong: Map<One, string>,
): Promise<One | null> {
  const answers = new Map<One, Opens>();
  for (const copy of copies) answers.set(copy, await opens(copy));
  const opening = copies.filter((copy) => answers.get(copy) === "yes");
  const [right] = opening;
  const isOne = right !== undefined && opening.every((copy) => isAlike(copy, right));
  for (const copy of copies) {
    if (isOne && isAlike(copy, right)) continue;
    const others = copies.filter((other) => !isAlike(other, copy)).map(({ name }) => name);
    wrong.set(
      copy,
      isOne
        ? `has keys that do not open it, and those in storage ${right.name} do`
        : `has other keys than storage ${others.join(" and ")}, and nothing here tells which are right: jbackup keys rotate, where all private keys are, seals them anew`,
    );
  }
  return isOne ? right : null;
}
