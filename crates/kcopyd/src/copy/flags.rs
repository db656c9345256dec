//! How a job is to be carried out: plain choices. They refuse to know what a job is.

/// What an error means for the rest of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnError {
    /// The first error stops new sub-jobs; what is in flight lands.
    #[default]
    Stop,
    /// Everything is attempted on every destination, and errors add up (`DM_KCOPYD_IGNORE_ERROR`).
    Ignore,
}

/// In which order a destination's writes are issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WriteOrder {
    /// In any.
    #[default]
    Any,
    /// Ascending, each after the one before it has completed (`DM_KCOPYD_WRITE_SEQ`).
    Sequential,
}

/// Whether the destinations are made durable before the job completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Flush {
    /// No: completion says nothing about a power failure.
    #[default]
    No,
    /// Every destination without an error is flushed.
    Yes,
}

/// How a job is to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct JobFlags {
    /// What an error means for the rest.
    pub on_error: OnError,
    /// The order of writes.
    pub order: WriteOrder,
    /// Durability.
    pub flush: Flush,
}

impl JobFlags {
    /// Sequential overrides ignoring errors, as in the kernel (P14).
    #[must_use]
    pub fn settled(self) -> Self {
        match self.order {
            WriteOrder::Sequential if !canary!(SequentialIgnoresErrors) => JobFlags { on_error: OnError::Stop, ..self },
            _ => self,
        }
    }
}
