//! Making, opening and owning the files.
//!
//! Every file begins with the same line of eight words: magic, layout version, file size, four parameters of the layout, state.
//! The second line belongs to the writer: epoch, process id, heartbeat, closed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::clock;
use super::error::ShmError;
use super::protocol::load_acquire;
use super::region::{Region, WORD, allocate};
use super::sync::Ordering;

const MAGIC: usize = 0;
const VERSION: usize = 1;
const BYTES: usize = 2;
const PARAMETERS: usize = 3;
const STATE: usize = 7;
const EPOCH: usize = 8;
const PID: usize = 9;
const HEARTBEAT: usize = 10;
const CLOSED: usize = 11;

/// Words that every file begins with: two cache lines.
pub const PREFIX_WORDS: usize = 16;
const PREFIX_BYTES: usize = PREFIX_WORDS * WORD;
const RETIRED: u64 = 1;
const PARAMETER_COUNT: usize = 4;

/// What kind of file it is, and how it is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub what: &'static str,
    pub magic: u64,
    pub version: u64,
    pub parameters: [u64; PARAMETER_COUNT],
    pub bytes: usize,
    /// Bytes from the beginning that are allocated when the file is made; the writer allocates the rest before it touches it.
    pub allocated: usize,
}

/// Eight ASCII characters as a word, readable in a hex dump.
pub const fn magic(name: &[u8; 8]) -> u64 {
    u64::from_le_bytes(*name)
}

/// A mapped file with the state that all kinds share.
pub struct Mapped {
    pub region: Region,
    pub path: PathBuf,
    inode: u64,
    /// Kept open: the writer's lock lives as long as it.
    file: File,
}

fn check(
    path: &Path,
    file: &File,
    what: &'static str,
    magic: u64,
    version: u64,
) -> Result<[u64; PREFIX_WORDS], ShmError> {
    let refuse = |found: String, expected: String, hint: &'static str| ShmError::Incompatible {
        path: path.to_path_buf(),
        found,
        expected,
        hint,
    };
    let foreign = "; is the path right?";
    let rebuild = "; stop its readers and remove the file, its writer makes a new one";
    let metadata = file
        .metadata()
        .map_err(|cause| ShmError::from_io(path, cause, 0))?;
    if !metadata.is_file() {
        return Err(refuse("not a file".into(), format!("a {what}"), foreign));
    }
    let size = metadata.len();
    if size < PREFIX_BYTES as u64 {
        return Err(refuse(
            format!("a file of {size} bytes"),
            format!("a {what}"),
            rebuild,
        ));
    }
    let region = Region::map(file, PREFIX_BYTES, false)
        .map_err(|cause| ShmError::from_io(path, cause, 0))?;
    let mut prefix = [0; PREFIX_WORDS];
    for (value, word) in prefix.iter_mut().zip(region.words(0, PREFIX_WORDS)) {
        *value = load_acquire(word);
    }
    if prefix[MAGIC] != magic {
        let shown = String::from_utf8_lossy(&prefix[MAGIC].to_le_bytes())
            .escape_default()
            .to_string();
        return Err(refuse(
            format!("the file begins with \"{shown}\""),
            format!("a {what}"),
            foreign,
        ));
    }
    if prefix[VERSION] != version {
        return Err(refuse(
            format!("{what} of layout {}", prefix[VERSION]),
            format!("layout {version}"),
            rebuild,
        ));
    }
    if prefix[BYTES] != size {
        return Err(refuse(
            format!("a {what} of {size} bytes"),
            format!("{} bytes (truncated?)", prefix[BYTES]),
            rebuild,
        ));
    }
    Ok(prefix)
}

fn parameters(prefix: &[u64; PREFIX_WORDS]) -> [u64; PARAMETER_COUNT] {
    let mut parameters = [0; PARAMETER_COUNT];
    parameters.copy_from_slice(&prefix[PARAMETERS..PARAMETERS + PARAMETER_COUNT]);
    parameters
}

/// Open an existing file to read it. `layout_of` computes the layout from the parameters, or says what is wrong with them.
pub fn open_reader(
    path: &Path,
    what: &'static str,
    magic: u64,
    version: u64,
    writable: bool,
    layout_of: impl Fn([u64; PARAMETER_COUNT]) -> Result<Layout, ShmError>,
) -> Result<(Mapped, Layout), ShmError> {
    let file = OpenOptions::new()
        .read(true)
        .write(writable)
        .open(path)
        .map_err(|cause| ShmError::from_io(path, cause, 0))?;
    let prefix = check(path, &file, what, magic, version)?;
    let layout = layout_of(parameters(&prefix))?;
    if layout.bytes as u64 != prefix[BYTES] {
        return Err(ShmError::Incompatible {
            path: path.to_path_buf(),
            found: format!("a {what} of {} bytes", prefix[BYTES]),
            expected: format!("{} bytes by its own parameters", layout.bytes),
            hint: "",
        });
    }
    Ok((Mapped::new(path, file, layout.bytes, writable)?, layout))
}

/// Open or make a file as its one writer. Returns whether it is new.
///
/// A file of another layout is refused; with `replace` it is marked retired and a new file takes its name.
pub fn open_writer(
    path: &Path,
    layout: &Layout,
    mode: u32,
    replace: bool,
) -> Result<(Mapped, bool), ShmError> {
    let io_error = |cause: io::Error| ShmError::from_io(path, cause, layout.bytes as u64);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io_error)?;
    }
    // Another writer may come between any two steps; each time round, one of them wins a step.
    for _ in 0..64 {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match make(path, layout, mode, false)? {
                    Some(mapped) => return Ok((mapped, true)),
                    None => continue,
                }
            }
            Err(error) => return Err(io_error(error)),
        };
        if !lock(&file).map_err(io_error)? {
            let pid = Region::map(&file, PREFIX_BYTES, false)
                .map_or(0, |region| load_acquire(region.word(PID)));
            return Err(ShmError::Owned {
                path: path.to_path_buf(),
                pid,
            });
        }
        if !has_name(&file, path).map_err(io_error)? {
            continue;
        }
        let known =
            check(path, &file, layout.what, layout.magic, layout.version).and_then(|prefix| {
                if parameters(&prefix) == layout.parameters && prefix[BYTES] == layout.bytes as u64
                {
                    return Ok(());
                }
                Err(ShmError::Incompatible {
                    path: path.to_path_buf(),
                    found: format!(
                        "a {} with parameters {:?}",
                        layout.what,
                        parameters(&prefix)
                    ),
                    expected: format!("{:?}", layout.parameters),
                    hint: "; stop its readers and remove the file, or let the writer replace it",
                })
            });
        match known {
            Ok(()) => return Ok((Mapped::new(path, file, layout.bytes, true)?, false)),
            Err(ShmError::Incompatible { .. }) if replace && is_ours(&file, layout.magic) => {
                retire(&file).map_err(io_error)?;
                if let Some(mapped) = make(path, layout, mode, true)? {
                    return Ok((mapped, true));
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(ShmError::Invalid(format!(
        "{}: other processes keep replacing the file",
        path.display()
    )))
}

fn lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn has_name(file: &File, path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(named) => Ok(named.ino() == file.metadata()?.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_ours(file: &File, magic: u64) -> bool {
    file.metadata()
        .is_ok_and(|metadata| metadata.len() >= PREFIX_BYTES as u64)
        && Region::map(file, PREFIX_BYTES, false)
            .is_ok_and(|region| load_acquire(region.word(MAGIC)) == magic)
}

fn retire(file: &File) -> io::Result<()> {
    let region = Region::map(file, PREFIX_BYTES, true)?;
    region.word(STATE).store(RETIRED, Ordering::Release);
    Ok(())
}

/// Build a file under another name, own it, and give it its name. `None` when somebody else's file has the name by now.
fn make(path: &Path, layout: &Layout, mode: u32, over: bool) -> Result<Option<Mapped>, ShmError> {
    let mut name = std::ffi::OsString::from(".");
    name.push(
        path.file_name()
            .ok_or_else(|| ShmError::Invalid(format!("{}: not a file name", path.display())))?,
    );
    name.push(format!(
        ".{}.{}.new",
        std::process::id(),
        clock::monotonic_ns()
    ));
    let building = path.with_file_name(name);
    let result = build(path, &building, layout, mode, over);
    // Linked or not, the building name has served; after a rename it is gone already.
    let _ = fs::remove_file(&building);
    result.map_err(|cause| ShmError::from_io(path, cause, layout.allocated as u64))
}

fn build(
    path: &Path,
    building: &Path,
    layout: &Layout,
    mode: u32,
    over: bool,
) -> io::Result<Option<Mapped>> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(building)?;
    lock(&file)?;
    file.set_len(layout.bytes as u64)?;
    allocate(&file, 0, layout.allocated)?;
    let region = Region::map(&file, layout.bytes, true)?;
    region.word(MAGIC).store(layout.magic, Ordering::Relaxed);
    region
        .word(VERSION)
        .store(layout.version, Ordering::Relaxed);
    region
        .word(BYTES)
        .store(layout.bytes as u64, Ordering::Relaxed);
    for (word, value) in region
        .words(PARAMETERS, PARAMETER_COUNT)
        .iter()
        .zip(layout.parameters)
    {
        word.store(value, Ordering::Relaxed);
    }
    if over {
        fs::rename(building, path)?;
    } else if let Err(error) = fs::hard_link(building, path) {
        return if error.kind() == io::ErrorKind::AlreadyExists {
            Ok(None)
        } else {
            Err(error)
        };
    }
    let inode = file.metadata()?.ino();
    Ok(Some(Mapped {
        region,
        path: path.to_path_buf(),
        inode,
        file,
    }))
}

impl Mapped {
    fn new(path: &Path, file: File, bytes: usize, writable: bool) -> Result<Self, ShmError> {
        let io_error = |cause: io::Error| ShmError::from_io(path, cause, 0);
        let region = Region::map(&file, bytes, writable).map_err(io_error)?;
        let inode = file.metadata().map_err(io_error)?.ino();
        Ok(Self {
            region,
            path: path.to_path_buf(),
            inode,
            file,
        })
    }

    /// Begin to write: a new epoch, this process, a first heartbeat.
    pub fn take_over(&self) {
        self.region
            .word(PID)
            .store(u64::from(std::process::id()), Ordering::Relaxed);
        self.region.word(CLOSED).store(0, Ordering::Relaxed);
        self.region.word(EPOCH).fetch_add(1, Ordering::Release);
        self.beat();
    }

    pub fn beat(&self) {
        self.region
            .word(HEARTBEAT)
            .store(clock::monotonic_ns(), Ordering::Release);
    }

    pub fn set_closed(&self) {
        self.region.word(CLOSED).store(1, Ordering::Release);
    }

    pub fn epoch(&self) -> u64 {
        load_acquire(self.region.word(EPOCH))
    }

    pub fn writer_pid(&self) -> u64 {
        load_acquire(self.region.word(PID))
    }

    /// Nanoseconds since the writer's last heartbeat.
    pub fn heartbeat_age_ns(&self) -> u64 {
        let beat = load_acquire(self.region.word(HEARTBEAT));
        clock::monotonic_ns().saturating_sub(beat)
    }

    /// True while the writer has not closed the file, has not been replaced, and its heartbeat is younger than `within_ns`.
    pub fn writer_alive(&self, within_ns: u64) -> bool {
        load_acquire(self.region.word(CLOSED)) == 0
            && load_acquire(self.region.word(STATE)) != RETIRED
            && self.heartbeat_age_ns() <= within_ns
    }

    /// True when the name now belongs to another file, or to none: open it again.
    pub fn replaced(&self) -> bool {
        load_acquire(self.region.word(STATE)) == RETIRED
            || fs::metadata(&self.path).map_or(true, |metadata| metadata.ino() != self.inode)
    }

    pub fn allocate(&self, start: usize, bytes: usize) -> Result<(), ShmError> {
        allocate(&self.file, start, bytes)
            .map_err(|cause| ShmError::from_io(&self.path, cause, bytes as u64))
    }
}
