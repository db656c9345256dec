//! A case: a name, by which it can be asked for, and what it does. Most cases come in several settings. It knows no device.

use std::fmt;
use std::fs;
use std::time::Duration;

use kcopyd::client::EngineChoice;

use crate::GUEST_MARK;

/// How long a case may take before it counts as hung. An emulated processor on a busy host is slow.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// One case. It fails by panicking.
pub struct Case {
    /// Its name: the promises it holds, the fault, the setting.
    pub name: String,
    /// What it does.
    pub run: Box<dyn Fn()>,
    /// When it counts as hung.
    pub deadline: Duration,
}

/// On what a case runs.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The engine.
    pub engine: EngineChoice,
    /// The logical block of all devices: 512 or 4096 bytes.
    pub block_bytes: u32,
    /// How many destinations.
    pub destinations: usize,
}

impl fmt::Display for Setting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, {} bytes, 1 to {}", engine_name(self.engine), self.block_bytes, self.destinations)
    }
}

/// An engine's name as callers know it.
pub fn engine_name(engine: EngineChoice) -> &'static str {
    match engine {
        EngineChoice::Auto => "auto",
        EngineChoice::IoUring => "io_uring",
        EngineChoice::Threads => "threads",
    }
}

/// The seed that was asked for with the word `seed=N`, or else the one of every day. Read from where the guest's init has the
/// arguments, so that a case in a process of its own has it too.
pub fn seed() -> u64 {
    let arguments = fs::read_to_string(GUEST_MARK).unwrap_or_default();
    let given = arguments.split_whitespace().find_map(|word| word.strip_prefix(SEED_WORD)?.parse().ok());
    given.unwrap_or(20_261_125)
}

/// What the word with the seed begins with.
pub const SEED_WORD: &str = "seed=";

/// Both engines.
pub const ENGINES: [EngineChoice; 2] = [EngineChoice::IoUring, EngineChoice::Threads];

/// The list of cases, as it is being written down.
#[derive(Default)]
pub struct Cases {
    /// So far.
    pub list: Vec<Case>,
}

impl Cases {
    /// A case that has no settings.
    pub fn once(&mut self, name: impl Into<String>, run: impl Fn() + 'static) {
        self.list.push(Case { name: name.into(), run: Box::new(run), deadline: DEADLINE });
    }

    /// A case on each engine.
    pub fn on_engines(&mut self, name: &str, run: fn(EngineChoice)) {
        for engine in ENGINES {
            self.once(format!("{name} ({})", engine_name(engine)), move || run(engine));
        }
    }

    /// A case on each engine, with small and with large blocks, to one destination and to three.
    pub fn everywhere(&mut self, name: &str, run: fn(Setting)) {
        for engine in ENGINES {
            for block_bytes in [512, 4096] {
                for destinations in [1, 3] {
                    let setting = Setting { engine, block_bytes, destinations };
                    self.once(format!("{name} ({setting})"), move || run(setting));
                }
            }
        }
    }
}
