import { existsSync } from "node:fs";
import { registerHooks } from "node:module";

// sources import each other as .js, which is what they become; here they still are .ts
registerHooks({
  resolve: (specifier, context, next) => {
    if (!specifier.startsWith(".") || !specifier.endsWith(".js")) return next(specifier, context);
    const source = new URL(specifier.replace(/\.js$/, ".ts"), context.parentURL);
    return existsSync(source) ? next(source.href, context) : next(specifier, context);
  },
});
