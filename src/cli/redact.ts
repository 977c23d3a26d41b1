const SHOWN = "***";
/** Shorter ones would blank half of every sentence, and are no secrets. */
const SHORTEST = 4;

/** As WHATWG addresses write a password, which differs from every encodeURI. */
function inAddress(text: string): string {
  const url = new URL("http://host");
  url.password = text;
  return url.password;
}

/** Lone surrogates have no percent form. */
const percent = (text: string): string => encodeURIComponent(text.toWellFormed());
const lowerCase = (text: string): string => text.replace(/%[0-9A-F]{2}/g, (code) => code.toLowerCase());

/** Every form in which a secret may appear in a text: as it is, in an address, in JSON, line by line. */
function formsOf(secret: string): string[] {
  const parts = new Set([secret, secret.trim(), ...secret.split(/\r?\n/).map((line) => line.trim())]);
  return [...parts].flatMap((text) => {
    const coded = [percent(text), inAddress(text), percent(text).replaceAll("%20", "+")];
    return [text, JSON.stringify(text).slice(1, -1), ...coded, ...coded.map(lowerCase)];
  });
}

export class Redactor {
  readonly #forms = new Set<string>();

  add(secret: string): void {
    if (secret.trim().length < SHORTEST) return;
    for (const form of formsOf(secret)) if (form.length >= SHORTEST) this.#forms.add(form);
  }

  /** Blanks again until nothing is left: what stands around *** may spell a secret anew. Each pass shortens the text. */
  clean(text: string): string {
    for (let before = text; ; ) {
      const after = this.#cleanOnce(before);
      if (after === before) return after;
      before = after;
    }
  }

  /** The text values of a document; its shape stays, so that JSON remains JSON whatever the secrets are. */
  cleanValue(value: unknown): unknown {
    if (typeof value === "string") return this.clean(value);
    if (Array.isArray(value)) return value.map((inner) => this.cleanValue(inner));
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, inner]) => [
        isFieldName(key) ? key : this.clean(key),
        this.cleanValue(inner),
      ]),
    );
  }

  #cleanOnce(text: string): string {
    const found = [...this.#forms].flatMap((form) => placesOf(form, text)).sort((a, b) => a.start - b.start);
    let cleaned = "";
    let done = 0;
    for (const { start, end } of found) {
      // two that overlap are blanked as one, or a piece of the second would remain
      if (start >= done) cleaned += text.slice(done, start) + SHOWN;
      done = Math.max(done, end);
    }
    return cleaned + text.slice(done);
  }
}

/** The contract's own names are never secrets; keys that come from a database may be. */
const isFieldName = (key: string): boolean => /^[a-z][A-Za-z0-9]*$/.test(key);

function placesOf(form: string, text: string): { start: number; end: number }[] {
  const places: { start: number; end: number }[] = [];
  for (let start = text.indexOf(form); start !== -1; start = text.indexOf(form, start + 1))
    places.push({ start, end: start + form.length });
  return places;
}
