import type { Reporter, Site } from "../site.js";

/** Lines of what runs for weeks say when they were written. */
export function stamped({ report, clock }: Site): Reporter {
  const at = (text: string): string => `${clock.now().toISOString().slice(0, 19)}Z ${text}`;
  return {
    info: (text) => report.info(at(text)),
    warn: (text) => report.warn(at(text)),
    progress: (state) => report.progress(state),
    progressEnd: () => report.progressEnd(),
  };
}
