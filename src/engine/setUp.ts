import type { Secret } from "../domain/secret.js";
import type { ChannelDraft, SiteDraft, StorageDraft } from "../domain/siteDraft.js";
import type { LocalServer } from "../postgres/postgres.js";
import { type LookedAt, lookAt } from "./setUp/lookAt.js";
import type { SetUpParts } from "./setUp/parts.js";
import { requireFree } from "./setUp/requireFree.js";
import { tryChannel } from "./setUp/tryChannel.js";
import { type TriedStorage, tryStorage } from "./setUp/tryStorage.js";
import { type SiteFiles, type WrittenSite, writeSite } from "./setUp/writeSite.js";

export { firstSteps } from "./setUp/firstSteps.js";
export type { Classification, LookedAt } from "./setUp/lookAt.js";
export type { TriedStorage } from "./setUp/tryStorage.js";
export type { SiteFiles, WrittenSite } from "./setUp/writeSite.js";

/** Making a site out of nothing: look, try, and only then write. */
export interface SetUp {
  localServers(): Promise<LocalServer[]>;
  /** Connects; whoever looks also closes. */
  lookAt(url: Secret): Promise<LookedAt>;
  /** Tries a storage for real and leaves it as it was. */
  tryStorage(draft: StorageDraft, site: string): Promise<TriedStorage>;
  /** Sends a test message. */
  tryChannel(draft: ChannelDraft, site: string): Promise<void>;
  /** Refuses what would replace, or stand beside, a site that is there already. */
  requireFree(files: SiteFiles): Promise<void>;
  /** Keys, recovery kit and configuration: all of them or nothing. */
  write(draft: SiteDraft, files: SiteFiles): Promise<WrittenSite>;
}

export const openSetUp = (parts: SetUpParts): SetUp => ({
  localServers: () => parts.postgres.findLocalServers(parts.environment.variable("PGHOST")),
  lookAt: (url) => lookAt(parts, url),
  tryStorage: (draft, site) => tryStorage(parts, draft, site),
  tryChannel: (draft, site) => tryChannel(parts, draft, site),
  requireFree: (files) => requireFree(parts, files),
  write: (draft, files) => writeSite(parts, draft, files),
});
