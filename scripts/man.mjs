// Writes man/jbackup.1 from the table of commands; needs the build.
import { readFileSync, writeFileSync } from "node:fs";
import { manPage } from "../dist/cli/manPage.js";

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
writeFileSync(new URL("../man/jbackup.1", import.meta.url), manPage(version));
