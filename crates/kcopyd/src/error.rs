//! The world's errors: what was refused or went wrong, in a form that a caller can act on. The programmer's errors are
//! assertions and never come this way.

use std::fmt;
use std::path::PathBuf;

/// What kind of refusal or failure an [`Error`] is; each has the code that callers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// An argument has the wrong type.
    InvalidArgType,
    /// An argument is outside its range.
    OutOfRange,
    /// A block device's region is not a multiple of its logical block.
    Alignment,
    /// Source and destination, or two destinations, overlap on one device.
    Overlap,
    /// A region ends past its device's end.
    Bounds,
    /// The client is closed.
    Closed,
    /// The device is closed.
    DeviceClosed,
    /// The device cannot be used: neither block device nor regular file, or too large a logical block.
    UnsupportedDevice,
    /// The device is not the one that the caller expected.
    UnexpectedDevice,
    /// The device was opened for the other direction.
    Access,
    /// The engine that was asked for cannot run here.
    EngineUnavailable,
    /// Something inside is broken; the client takes no more jobs.
    Internal,
    /// A system call failed; see `errno`.
    System,
}

impl ErrorKind {
    /// The code of errors of this kind; a system error's code is the name of its errno and is made at the face.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            ErrorKind::InvalidArgType => "ERR_INVALID_ARG_TYPE",
            ErrorKind::OutOfRange => "ERR_OUT_OF_RANGE",
            ErrorKind::Alignment => "ERR_KCOPYD_ALIGNMENT",
            ErrorKind::Overlap => "ERR_KCOPYD_OVERLAP",
            ErrorKind::Bounds => "ERR_KCOPYD_BOUNDS",
            ErrorKind::Closed => "ERR_KCOPYD_CLOSED",
            ErrorKind::DeviceClosed => "ERR_KCOPYD_DEVICE_CLOSED",
            ErrorKind::UnsupportedDevice => "ERR_KCOPYD_UNSUPPORTED_DEVICE",
            ErrorKind::UnexpectedDevice => "ERR_KCOPYD_UNEXPECTED_DEVICE",
            ErrorKind::Access => "ERR_KCOPYD_ACCESS",
            ErrorKind::EngineUnavailable => "ERR_KCOPYD_ENGINE_UNAVAILABLE",
            ErrorKind::Internal => "ERR_KCOPYD_INTERNAL",
            ErrorKind::System => "",
        }
    }
}

/// A refusal or a failure.
#[derive(Clone, Debug)]
pub struct Error {
    /// What kind it is.
    pub kind: ErrorKind,
    /// What happened and what to do about it, as a sentence for a person, without a final full stop.
    pub context: String,
    /// The positive errno, if the system said no.
    pub errno: Option<i32>,
    /// The system call that said no.
    pub syscall: Option<&'static str>,
    /// The path that it was about.
    pub path: Option<PathBuf>,
    /// The destination that it was about, from 0.
    pub destination: Option<usize>,
}

impl Error {
    /// An error of a kind, with its sentence.
    #[must_use]
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Error { kind, context: context.into(), errno: None, syscall: None, path: None, destination: None }
    }

    /// A system call's failure, with a positive errno.
    #[must_use]
    pub fn system(errno: i32, syscall: &'static str, context: impl Into<String>) -> Self {
        Error { errno: Some(errno), syscall: Some(syscall), ..Error::new(ErrorKind::System, context) }
    }

    /// The same error, said of a path.
    #[must_use]
    pub fn at_path(self, path: impl Into<PathBuf>) -> Self {
        Error { path: Some(path.into()), ..self }
    }

    /// The same error, said of a destination.
    #[must_use]
    pub fn at_destination(self, destination: usize) -> Self {
        Error { destination: Some(destination), ..self }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.context)?;
        if let Some(path) = &self.path {
            write!(formatter, " ({})", path.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
