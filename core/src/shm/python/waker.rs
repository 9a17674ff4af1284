use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pyo3::prelude::*;

use super::super::error::ShmError;
use super::super::table::TableReader;

/// How often the thread looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(100);

/// A thread outside Python that sleeps until the table's writer commits, and then makes a descriptor readable.
///
/// An event loop that watches the descriptor learns of a commit without a second Python thread that would want the GIL. The
/// descriptor is an eventfd (a pipe where there are none): reading it takes all commits since the last reading at once.
#[pyclass(frozen, module = "pipeline._core")]
pub struct Waker {
    descriptor: Arc<OwnedFd>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The descriptor to read, and the one to write.
#[cfg(all(target_os = "linux", not(feature = "portable")))]
fn bell() -> rustix::io::Result<(Arc<OwnedFd>, Arc<OwnedFd>)> {
    use rustix::event::{EventfdFlags, eventfd};
    let descriptor = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    Ok((descriptor.clone(), descriptor))
}

#[cfg(any(not(target_os = "linux"), feature = "portable"))]
fn bell() -> rustix::io::Result<(Arc<OwnedFd>, Arc<OwnedFd>)> {
    let (reading, writing) = rustix::pipe::pipe()?;
    for end in [&reading, &writing] {
        rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(end, true)?;
    }
    Ok((Arc::new(reading), Arc::new(writing)))
}

impl Waker {
    pub fn start(table: Arc<TableReader>) -> PyResult<Self> {
        let io_error = |cause| ShmError::Invalid(format!("cannot watch the table: {cause}"));
        let (descriptor, writing) = bell().map_err(|errno| io_error(errno.to_string()))?;
        let stopped = Arc::new(AtomicBool::new(false));
        let stopping = stopped.clone();
        let mut position = table.head();
        let thread = thread::Builder::new()
            .name("shm-waker".into())
            .spawn(move || {
                while !stopping.load(Ordering::Relaxed) {
                    if let Ok(true) = table.wait(position, LOOK) {
                        position = table.head();
                        // It fails only where the counter is full, and then the descriptor is readable as it is.
                        let _ = rustix::io::write(&writing, &1_u64.to_ne_bytes());
                    }
                }
            })
            .map_err(|error| io_error(error.to_string()))?;
        Ok(Self {
            descriptor,
            stopped,
            thread: Some(thread),
        })
    }
}

#[pymethods]
impl Waker {
    /// Return the descriptor; it belongs to this object.
    fn fileno(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }

    /// Let the thread end, within a tenth of a second; stop watching the descriptor before.
    fn close(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        self.close();
        // The thread holds the mapping and the descriptor itself; nobody needs to wait for it.
        drop(self.thread.take());
    }
}
