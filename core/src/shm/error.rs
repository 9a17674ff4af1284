//! What can go wrong with a shared-memory file.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum ShmError {
    #[error("{path}: no such shared-memory file; its writer has not started yet")]
    Missing { path: PathBuf },
    #[error("{path}: {found}; {expected} expected{hint}")]
    Incompatible {
        path: PathBuf,
        found: String,
        expected: String,
        hint: &'static str,
    },
    #[error("{path}: process {pid} is writing it already; a file has one writer")]
    Owned { path: PathBuf, pid: u64 },
    #[error("{path}: not permitted ({cause}); use the writer's user, or change the file's mode")]
    Permission { path: PathBuf, cause: io::Error },
    #[error(
        "{path}: no room for {bytes} bytes; free space there, or set another shared-memory directory"
    )]
    DiskFull { path: PathBuf, bytes: u64 },
    #[error("{what} is full: {limit} is the limit")]
    Full { what: String, limit: u64 },
    #[error("{0}")]
    Invalid(String),
    #[error("{path}: {cause}")]
    Io { path: PathBuf, cause: io::Error },
}

impl ShmError {
    /// Give an I/O error its meaning.
    pub fn from_io(path: &Path, cause: io::Error, bytes: u64) -> Self {
        let path = path.to_path_buf();
        match cause.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => Self::Missing { path },
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Self::Permission { path, cause },
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Self::DiskFull { path, bytes },
            _ => Self::Io { path, cause },
        }
    }
}
