import type { SetUp } from "../../engine/setUp.js";
import type { CommandContext, Options } from "../context.js";
import type { Ask } from "./ask.js";

/** What the questions of `init` share. */
export interface Scene {
  context: CommandContext;
  setUp: SetUp;
  /** What was said on the command line is not asked. */
  options: Options;
  /** Null where nobody is there to be asked: then everything has its default. */
  ask: Ask | null;
}
