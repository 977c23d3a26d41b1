import { Pile } from "../sys/pile.js";

/** A document's text in pieces of about this many characters. */
const PIECE = 1 << 16;

type Clean = (value: unknown) => unknown;

/**
 * What `JSON.stringify(value, null, spaces)` gives, and a line break, piece by piece: the items of an answer, or of a list right in it, are
 * taken one after the other, so that a list of many thousands never stands in memory as a whole.
 */
export function* documentPieces(value: unknown, spaces: number, clean: Clean): Generator<string> {
  let piece = "";
  for (const part of partsOf(value, spaces, clean)) {
    piece += part;
    if (piece.length < PIECE) continue;
    yield piece;
    piece = "";
  }
  yield `${piece}\n`;
}

function* partsOf(value: unknown, spaces: number, clean: Clean): Generator<string> {
  const form: Form = { indent: " ".repeat(spaces), clean };
  if (isList(value)) return yield* listParts(value, form, 0);
  if (!isPlain(value) || !Object.values(value).some(isList)) return yield textOf(value, form, 0) ?? "null";
  let before = "{";
  for (const [key, inner] of Object.entries(value)) {
    const name = `${before}${lineBreak(form, 1)}${nameOf(key, form)}:${form.indent === "" ? "" : " "}`;
    if (isList(inner)) {
      yield name;
      yield* listParts(inner, form, 1);
    } else {
      const text = textOf(inner, form, 1);
      if (text === undefined) continue;
      yield name + text;
    }
    before = ",";
  }
  yield `${lineBreak(form, 0)}}`;
}

interface Form {
  indent: string;
  clean: Clean;
}

function* listParts(items: Iterable<unknown>, form: Form, depth: number): Generator<string> {
  let before = "[";
  for (const item of items) {
    yield `${before}${lineBreak(form, depth + 1)}${textOf(item, form, depth + 1) ?? "null"}`;
    before = ",";
  }
  yield before === "[" ? "[]" : `${lineBreak(form, depth)}]`;
}

/** Through JSON first, so that dates and the like are the text that will be seen. */
function textOf(value: unknown, form: Form, depth: number): string | undefined {
  const plain = JSON.stringify(value);
  if (plain === undefined) return undefined;
  const text = JSON.stringify(form.clean(JSON.parse(plain)), null, form.indent);
  return depth === 0 ? text : text.replaceAll("\n", lineBreak(form, depth));
}

const nameOf = (key: string, { clean }: Form): string =>
  JSON.stringify(Object.keys(clean({ [key]: null }) as object)[0]);

const lineBreak = ({ indent }: Form, depth: number): string =>
  indent === "" ? "" : `\n${indent.repeat(depth)}`;

const isPlain = (value: unknown): value is object =>
  typeof value === "object" && value !== null && !("toJSON" in value);

/** Whatever JSON has as a list. */
const isList = (value: unknown): value is Iterable<unknown> => Array.isArray(value) || value instanceof Pile;
