/** Where a run can be stopped and killed, in the order in which it passes them. */
export const BACKUP_STEPS = [
  "recorded",
  "snapshot-taken",
  "dumping",
  "object-stored",
  "dumped",
  "settled",
  "manifest-stored",
  "catalogued",
];
export const PHYSICAL_STEPS = [
  "recorded",
  "backup-started",
  "object-stored",
  "files-read",
  "backup-stopped",
  "map-stored",
  "settled",
  "manifest-stored",
  "chain-remembered",
  "catalogued",
];
export const SWAP_STEPS = [
  "restore-recorded",
  "fetched",
  "side-created",
  "loaded",
  "checked",
  "dressed",
  "swapped",
];
export const MERGE_STEPS = ["restore-recorded", "fetched", "side-created", "loaded", "checked", "merged"];
export const IN_PLACE_STEPS = ["restore-recorded", "fetched", "loaded"];
/** Killed in test/e2e/init.test.ts. */
export const INIT_STEPS = ["init-keys-written", "init-kit-written"];
export const ROTATION_STEPS = ["manifest-rewrapped"];
export const CLUSTER_STEPS = [
  "restore-recorded",
  "target-marked",
  "files-created",
  "pack-restored",
  "files-written",
  "settings-written",
  "files-restored",
  "replaying",
  "target-reached",
];
export const SCRATCH_STEPS = ["scratch-begun", "scratch-made", "scratch-up"];
export const DRILL_STEPS = ["drill-begun", "drill-made"];
export const WAL_STEPS = ["wal-durable"];
export const PAST_STEPS = ["past-created", "past-loaded"];
export const TENANT_BACKUP_STEPS = ["tenants-snapshot", "tenant-object-stored", "tenant-manifest-stored"];
export const TENANT_RESTORE_STEPS = [
  "tenant-saved",
  "tenant-staged",
  "tenant-written",
  "tenant-proved",
  "tenant-committed",
];
export const VERIFY_STEPS = ["verified", "healed-object"];
export const CLEANUP_STEPS = ["cleanup-planned", "cleanup-manifest-removed", "cleanup-objects-removed"];
/** Killed in test/e2e/configBackup.test.ts. */
export const CONFIG_RESTORE_STEPS = ["config-file-placed"];
