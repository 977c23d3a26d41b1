const TAB = 0x09;
const LINE = 0x0a;
const BACKSLASH = 0x5c;

const ESCAPES: Record<string, string> = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v" };

/** A field of COPY text as a field of CSV: null is nothing at all, an empty text is "". */
function csvField(field: Buffer): string {
  if (field.length === 2 && field[0] === BACKSLASH && field[1] === 0x4e) return "";
  const text = field.includes(BACKSLASH)
    ? field.toString("utf8").replace(/\\(.)/gs, (_, letter: string) => ESCAPES[letter] ?? letter)
    : field.toString("utf8");
  return text === "" || /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const header = (columns: string[]): Buffer =>
  Buffer.from(`${columns.map((name) => csvField(Buffer.from(name.replaceAll("\\", "\\\\")))).join(",")}\r\n`);

/** COPY text as CSV (RFC 4180) with a header; a row at a time. */
export async function* csvOfCopy(content: AsyncIterable<Buffer>, columns: string[]): AsyncGenerator<Buffer> {
  yield header(columns);
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of content) {
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    const rows: string[] = [];
    let start = 0;
    for (let end = bytes.indexOf(LINE); end !== -1; end = bytes.indexOf(LINE, start)) {
      rows.push(csvRow(bytes.subarray(start, end), columns.length));
      start = end + 1;
    }
    rest = Buffer.from(bytes.subarray(start));
    if (rows.length > 0) yield Buffer.from(rows.join(""));
  }
  if (rest.length > 0) yield Buffer.from(csvRow(rest, columns.length));
}

function csvRow(row: Buffer, columns: number): string {
  const fields: string[] = [];
  let start = 0;
  for (let nth = 0; nth < columns; nth++) {
    const tab = row.indexOf(TAB, start);
    const end = tab === -1 ? row.length : tab;
    fields.push(csvField(row.subarray(start, end)));
    start = end + 1;
  }
  return `${fields.join(",")}\r\n`;
}
