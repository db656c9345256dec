//! What a client is created with, and the check of it. It refuses to know engines beyond their names.

use crate::copy::limits::{
    PAGE_SECTORS, PAGES_DEFAULT, PAGES_MAX, SUB_JOB_SECTORS_DEFAULT, SUB_JOB_SECTORS_MAX, SUB_JOB_SECTORS_MIN,
};
use crate::copy::throttle::SharedThrottle;
use crate::engine::select::EngineChoice;
use crate::error::{Error, ErrorKind};

/// What a client is created with.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// Pages of 4096 bytes set aside for this client: a hard cap. 1 to 2^20; the default is 4096.
    pub pages: Option<u32>,
    /// The most that one sub-job copies, 8 to 2048 sectors, used in whole pages. The default, 1024, is clamped to the pool;
    /// a value that is given must fit into it.
    pub sub_job_sectors: Option<u64>,
    /// The engine.
    pub engine: EngineChoice,
    /// How fast it may go; may be shared with other clients. No limit by default.
    pub throttle: Option<SharedThrottle>,
}

/// Options with every default resolved.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) pages: u32,
    pub(crate) sub_job_sectors: u64,
    pub(crate) engine: EngineChoice,
    pub(crate) throttle: Option<SharedThrottle>,
}

impl ClientOptions {
    pub(crate) fn check(&self) -> Result<Checked, Error> {
        let out_of_range = |text: String| Error::new(ErrorKind::OutOfRange, text);
        let pages = self.pages.unwrap_or(PAGES_DEFAULT);
        if !(1..=PAGES_MAX).contains(&pages) {
            return Err(out_of_range(format!("pages must be 1 to {PAGES_MAX}, not {pages}")));
        }
        let pool_sectors = u64::from(pages) * PAGE_SECTORS;
        let sub_job_sectors = match self.sub_job_sectors {
            None => SUB_JOB_SECTORS_DEFAULT.min(pool_sectors),
            Some(sectors) if !(SUB_JOB_SECTORS_MIN..=SUB_JOB_SECTORS_MAX).contains(&sectors) => {
                let text = format!("subJobSectors must be {SUB_JOB_SECTORS_MIN} to {SUB_JOB_SECTORS_MAX}, not {sectors}");
                return Err(out_of_range(text));
            }
            Some(sectors) if sectors > pool_sectors => {
                let text = format!("subJobSectors is {sectors}, but {pages} pages hold only {pool_sectors} sectors");
                return Err(out_of_range(text));
            }
            Some(sectors) => sectors,
        };
        Ok(Checked { pages, sub_job_sectors, engine: self.engine, throttle: self.throttle.clone() })
    }
}
