const SHOWN = "***";
/** Shorter ones would blank half of every sentence, and are no secrets. */
const SHORTEST = 4;

/** Every form in which a secret may appear in a text: as it is, in an address, in JSON, line by line. */
function formsOf(secret: string): string[] {
  const whole = secret.trim();
  const lines = whole.split(/\r?\n/).map((line) => line.trim());
  return [whole, ...lines].flatMap((text) => [
    text,
    encodeURIComponent(text),
    encodeURI(text),
    JSON.stringify(text).slice(1, -1),
  ]);
}

export class Redactor {
  readonly #forms = new Set<string>();
  #longestFirst: string[] = [];

  add(secret: string): void {
    for (const form of formsOf(secret)) if (form.length >= SHORTEST) this.#forms.add(form);
    // a connection address holds its password as a part, which may appear without the rest
    this.#longestFirst = [...this.#forms].sort((a, b) => b.length - a.length);
  }

  clean(text: string): string {
    return this.#longestFirst.reduce((sofar, form) => sofar.replaceAll(form, SHOWN), text);
  }
}
