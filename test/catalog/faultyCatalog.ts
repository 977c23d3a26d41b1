import type { Catalog } from "../../src/catalog/catalog.js";
import { openCatalog } from "../../src/catalog/catalogs.js";
import { JBackupError } from "../../src/domain/errors.js";
import { type Clock, systemClock } from "../../src/sys/clock.js";

/** A real catalog in a file, on a server that can be switched off. */
export class FaultyCatalog {
  readonly url: string;
  isDown = false;
  /** How many more calls succeed before it goes down by itself. */
  callsLeft = Number.POSITIVE_INFINITY;
  opened = 0;
  /** The calls that went through, in their order. */
  readonly calls: string[] = [];

  constructor(directory: string) {
    this.url = `sqlite:${directory}/catalog.db`;
  }

  readonly open = async (): Promise<Catalog> => {
    this.opened++;
    this.#check();
    const catalog = await openCatalog(this.url, { clock: systemClock });
    return new Proxy(catalog, {
      get: (target, key: keyof Catalog) => {
        const member = target[key];
        if (typeof member !== "function" || key === "close")
          return typeof member === "function" ? member.bind(target) : member;
        return async (argument: never) => {
          if (this.callsLeft-- <= 0) this.isDown = true;
          this.#check();
          const answer = await (member as (argument: never) => Promise<unknown>).call(target, argument);
          this.calls.push(key);
          return answer;
        };
      },
    });
  };

  #check(): void {
    if (this.isDown) throw new JBackupError("catalog_unavailable", "the catalog is switched off");
  }
}

/** Time stands still until it is moved. */
export class StillClock implements Clock {
  #ms = Date.UTC(2026, 10, 20);

  now(): Date {
    return new Date(this.#ms);
  }

  monotonicMs(): number {
    return this.#ms;
  }

  pass(ms: number): void {
    this.#ms += ms;
  }
}
