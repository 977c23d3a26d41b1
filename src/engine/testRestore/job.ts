export const TEST_RESTORE_JOB = "test-restore";

/** The fingerprint of a test that failed, open until one passes. */
export const TEST_FAILED = `failed:${TEST_RESTORE_JOB}`;
