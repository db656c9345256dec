// The bounds that the face checks itself, because a good message needs the caller's words. They repeat
// crates/kcopyd/src/copy/limits.rs, where the reasons are; a test compares the two. It knows numbers and nothing else.

/** Bytes of one sector, always. */
export const SECTOR_BYTES = 512;
/** Sectors of one page of a client's pool. */
export const PAGE_SECTORS = 8;
/** The most destinations of one job; `writeErr` has one bit for each. */
export const DESTINATIONS_MAX = 32;
/** Pages of a client unless the caller says otherwise. */
export const PAGES_DEFAULT = 4096;
/** The most pages of one client. */
export const PAGES_MAX = 1_048_576;
/** The smallest sub-job a client may be created with, in sectors. */
export const SUB_JOB_SECTORS_MIN = 8;
/** The largest sub-job a client may be created with, in sectors. */
export const SUB_JOB_SECTORS_MAX = 2048;
/** The size of a sub-job unless the caller says otherwise, in sectors. */
export const SUB_JOB_SECTORS_DEFAULT = 1024;
