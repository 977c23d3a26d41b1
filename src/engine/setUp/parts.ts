import type { Channel } from "../../alerts/alerts.js";
import type { Environment } from "../../config/config.js";
import type { ChannelDraft, StorageDraft } from "../../domain/siteDraft.js";
import type * as PostgresFront from "../../postgres/postgres.js";
import type { Storage } from "../../storage/storage.js";
import type * as Storages from "../../storage/storages.js";
import type { Clock } from "../../sys/clock.js";
import type { Format } from "../site.js";

/** What setting up a site works with: no configuration exists yet. */
export interface SetUpParts {
  readonly environment: Environment;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly format: Format;
  readonly storage: Pick<typeof Storages, "checkStorage" | "readSite">;
  readonly postgres: Pick<
    typeof PostgresFront,
    "openPostgres" | "passwordIn" | "findLocalServers" | "lookAtServer" | "policySettings" | "activeCondition"
  >;
  openStorage(draft: StorageDraft): Promise<Storage>;
  openChannel(draft: ChannelDraft): Promise<Channel>;
  onSecret(text: string): void;
  /** A named point. Tests stop the process here; otherwise nothing happens. */
  step(name: string): void;
  /** The stand-alone script that opens backups without jbackup. */
  readonly recoverScript: string;
}
