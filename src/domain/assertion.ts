/** What the operator says must hold in a restored database. */
export interface Assertion {
  name: string;
  /** Null: the database that is protected. */
  database: string | null;
  sql: string;
  /** What the one value must be; undefined: true. Null is SQL's null. */
  expect?: string | number | boolean | null;
}

export interface Judged {
  holds: boolean;
  expected: string;
  seen: string;
}

const MOST_SHOWN = 200;

const shown = (value: string | null): string => {
  if (value === null) return "null";
  return value.length > MOST_SHOWN ? `${value.slice(0, MOST_SHOWN)}...` : value;
};

const BOOLEANS: Record<string, string> = { t: "true", f: "false" };

/** PostgreSQL's booleans are t and f in text; 7, 7.0 and 7.00 are one number. */
function isSame(seen: string | null, expected: string | number | boolean | null): boolean {
  if (seen === null || expected === null) return seen === expected;
  if (typeof expected === "boolean") return (BOOLEANS[seen] ?? seen) === String(expected);
  if (typeof expected === "number") return seen.trim() !== "" && Number(seen) === expected;
  return seen === expected;
}

/** One row with one value, which is true or what was expected. Anything else does not hold: no answer proves nothing. */
export function judgeAssertion({ expect }: Assertion, rows: (string | null)[][]): Judged {
  const wanted = expect === undefined ? true : expect;
  const expected = wanted === null ? "null" : String(wanted);
  const [first] = rows;
  if (first === undefined) return { holds: false, expected, seen: "no row" };
  if (rows.length > 1) return { holds: false, expected, seen: "more than one row" };
  if (first.length !== 1) return { holds: false, expected, seen: `a row of ${first.length} values, not one` };
  const value = first[0] ?? null;
  const isBoolean = typeof wanted === "boolean" && value !== null;
  return {
    holds: isSame(value, wanted),
    expected,
    seen: isBoolean ? (BOOLEANS[value] ?? shown(value)) : shown(value),
  };
}
