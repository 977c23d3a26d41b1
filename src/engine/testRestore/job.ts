export const TEST_RESTORE_JOB = "test-restore";
