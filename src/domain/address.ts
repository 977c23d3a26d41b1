/** What keeps a text from being the address of a database. The text is never repeated: it may hold a password. */
export function addressProblem(text: string): string | null {
  if (text.trim() === "") return "it is empty";
  return /^postgres(ql)?:\/\//i.test(text) ? null : "it does not begin with postgresql://";
}

const decoded = (text: string): string => {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a lone percent sign: it is meant as it stands
  }
};

/** Of an address only the password is secret: the rest may be named in errors. Up to the last @: it may hold one itself. */
export function secretPartsOf(address: string): string[] {
  const inside = /^[a-z0-9+.-]+:\/\/[^/@:]*:(.*)@/i.exec(address)?.[1];
  const named = [...address.matchAll(/(?:password|passwd)=('[^']*'|[^&\s]+)/gi)].map(([, value]) =>
    (value ?? "").replaceAll("'", ""),
  );
  return [...(inside === undefined ? [] : [inside]), ...named].flatMap((part) => [part, decoded(part)]);
}

/** Passwords that somebody typed on a command line after all: `--database-url postgresql://USER:PASSWORD@HOST/DATABASE`. */
export const secretsTypedIn = (words: readonly string[]): string[] =>
  words.flatMap((word) => secretPartsOf(/[a-z][a-z0-9+.-]*:\/\/.*/is.exec(word)?.[0] ?? word));
