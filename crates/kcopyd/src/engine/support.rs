//! What this machine can run, without running anything of it for long. It refuses to know clients.

use super::Kind;

/// What would be chosen here, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// The engine that `EngineChoice::Auto` chooses; none where nothing can run.
    pub engine: Option<Kind>,
    /// Why this one, in words.
    pub reason: String,
    /// The release of the running kernel.
    pub kernel: String,
}

/// Looks which engine would be chosen now.
#[must_use]
pub fn support() -> Support {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    Support { engine: Some(Kind::Threads), reason: String::new(), kernel }
}
