/** A report as blocks, from which every form of it is made: Markdown, plain text, a page that needs nothing else. */
export type Block =
  | { kind: "heading"; text: string }
  | { kind: "list"; items: string[] }
  | { kind: "table"; head: string[]; rows: string[][] };

export interface Document {
  title: string;
  blocks: Block[];
}

export const spanText = (ms: number | null): string => {
  if (ms === null) return "not measured";
  const seconds = Math.round(ms / 1_000);
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3_600)} h ${Math.floor((seconds % 3_600) / 60)} min`;
};

const oneLine = (text: string): string => text.replaceAll("\n", " ");
const cell = (text: string): string => oneLine(text.replaceAll("|", "\\|"));

export function markdownText({ title, blocks }: Document): string {
  const parts = blocks.map((block) => {
    if (block.kind === "heading") return `## ${block.text}`;
    if (block.kind === "list") return block.items.map((item) => `- ${oneLine(item)}`).join("\n");
    const line = (cells: string[]): string => `| ${cells.map(cell).join(" | ")} |`;
    return [line(block.head), line(block.head.map(() => "---")), ...block.rows.map(line)].join("\n");
  });
  return `${[`# ${title}`, ...parts].join("\n\n")}\n`;
}

const WIDTH = 100;

/** For a terminal, a printer, or an e-mail. */
export function plainText({ title, blocks }: Document): string {
  const parts = blocks.map((block) => {
    if (block.kind === "heading") return `${block.text}\n${"-".repeat(block.text.length)}`;
    if (block.kind === "list") return block.items.map((item) => wrapped(item, "", "  ")).join("\n");
    return inColumns(block) ?? block.rows.map((cells) => rowText(block.head, cells)).join("\n");
  });
  return `${[`${title}\n${"=".repeat(title.length)}`, ...parts].join("\n\n")}\n`;
}

const IS_NUMBER = /^[\d,]+$|^-$/;

/** Null when the lines would be too long. */
function inColumns({ head, rows }: Extract<Block, { kind: "table" }>): string | null {
  const widths = head.map((title, at) =>
    Math.max(title.length, ...rows.map((cells) => oneLine(cells[at] ?? "").length)),
  );
  if (widths.reduce((sum, width) => sum + width + 2, -2) > WIDTH) return null;
  const isNumbers = head.map((_, at) => rows.every((cells) => IS_NUMBER.test(cells[at] ?? "")));
  const line = (cells: string[]): string =>
    cells
      .map((text, at) => {
        const width = widths[at] ?? 0;
        return isNumbers[at] ? text.padStart(width) : oneLine(text).padEnd(width);
      })
      .join("  ")
      .trimEnd();
  return [line(head), ...rows.map(line)].join("\n");
}

/** A row that is too long for a line is told below its first cell. */
function rowText(head: string[], [first = "", ...rest]: string[]): string {
  const named = rest.flatMap((text, at) => (text === "" ? [] : [[head[at + 1] ?? "", text] as const]));
  return [
    wrapped(first, "", "  "),
    ...named.map(([name, text]) => wrapped(text, `  ${`${name}:`.padEnd(10)} `, " ".repeat(13))),
  ].join("\n");
}

/** Breaks at spaces; what has none stays whole. */
function wrapped(text: string, first: string, further: string): string {
  const lines: string[] = [];
  let line = first;
  for (const word of oneLine(text).split(" ")) {
    const isBegun = line !== first && line !== further;
    if (isBegun && line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = `${further}${word}`;
    } else line = isBegun ? `${line} ${word}` : `${line}${word}`;
  }
  return [...lines, line].join("\n");
}

const escaped = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

const STYLE =
  "body{font:16px/1.5 sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}table{border-collapse:collapse}td,th{border:1px solid #bbb;padding:.3rem .6rem;text-align:left;vertical-align:top}th{background:#eee}td,li{overflow-wrap:anywhere}.passed{color:#0a5c1f;font-weight:bold}.failed{color:#a40e26;font-weight:bold}@media print{body{font-size:10pt;margin:0}}";

const classOf = (text: string): string => (text === "passed" || text === "failed" ? ` class="${text}"` : "");

/** `data` stands in the page for programs. */
export function htmlText({ title, blocks }: Document, data: unknown = null): string {
  const parts = blocks.map((block) => {
    if (block.kind === "heading") return `<h2>${escaped(block.text)}</h2>`;
    if (block.kind === "list")
      return `<ul>${block.items.map((item) => `<li>${escaped(item)}</li>`).join("\n")}</ul>`;
    const row = (cells: string[], tag: "td" | "th"): string =>
      `<tr>${cells.map((text) => `<${tag}${classOf(text)}>${escaped(text)}</${tag}>`).join("")}</tr>`;
    return `<table>${[row(block.head, "th"), ...block.rows.map((cells) => row(cells, "td"))].join("\n")}</table>`;
  });
  // a text in it must not end the element
  const json =
    data === null
      ? ""
      : `\n<script type="application/json" id="report">${JSON.stringify(data).replaceAll("<", "\\u003c")}</script>`;
  return `<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>${escaped(title)}</title><style>${STYLE}</style></head>\n<body><h1>${escaped(title)}</h1>\n${parts.join("\n")}${json}\n</body></html>\n`;
}
